//! Runs every fuzz target for some seconds: on its corpus, then on mutations of it that are the same in every run.
//!
//! `MILLRACE_FUZZ_SECONDS` makes it longer, `MILLRACE_FUZZ_SEED` different.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod mutate;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::Mutator;

/// Longest that one input may take, with other tests beside it: a target that hangs has failed.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn filter() {
    fuzz("filter", millrace_fuzz::filter::run, &["corpus/filter"]);
}

#[test]
fn template() {
    fuzz("template", millrace_fuzz::template::run, &["corpus/template"]);
}

#[test]
fn packet_to_record() {
    fuzz("packet_to_record", millrace_fuzz::packet::run, &["corpus/packet"]);
}

#[test]
fn manifest() {
    fuzz(
        "manifest",
        millrace_fuzz::manifest::run,
        &["corpus/manifest", "../examples", "../crds/tests"],
    );
}

fn fuzz(name: &str, run: fn(&[u8]), folders: &[&str]) {
    let mut corpus: Vec<Vec<u8>> = Vec::new();
    for folder in folders {
        let files = files(Path::new(folder));
        assert!(!files.is_empty(), "{folder} has no inputs");
        corpus.extend(files.iter().map(|file| fs::read(file).unwrap()));
    }
    for input in &corpus {
        run_one(name, run, input);
    }
    let number = |name: &str, default| {
        std::env::var(name)
            .ok()
            .map_or(default, |text| text.parse::<u64>().unwrap())
    };
    let end = Instant::now() + Duration::from_secs(number("MILLRACE_FUZZ_SECONDS", 5));
    let mut mutator = Mutator::new(&corpus, number("MILLRACE_FUZZ_SEED", 1));
    let (mut input, mut slowest_input) = (Vec::new(), Vec::new());
    let (mut count, mut slowest) = (0_u64, Duration::ZERO);
    while Instant::now() < end {
        mutator.next(&mut input);
        let elapsed = run_one(name, run, &input);
        if elapsed > slowest {
            slowest = elapsed;
            slowest_input.clone_from(&input);
        }
        count += 1;
    }
    assert!(count > 0);
    println!(
        "{name}: {} inputs of the corpus, {count} mutations, slowest {slowest:?}",
        corpus.len()
    );
    println!("{name}: the slowest was {:?}", shortened(&slowest_input));
}

fn run_one(name: &str, run: fn(&[u8]), input: &[u8]) -> Duration {
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| run(input)));
    let elapsed = start.elapsed();
    let is_slow = elapsed > PATIENCE;
    if result.is_err() || is_slow {
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.input"));
        fs::write(&file, input).unwrap();
        eprintln!(
            "{name}: {elapsed:?} for {}: {:?}",
            file.display(),
            shortened(input)
        );
    }
    if let Err(panic) = result {
        resume_unwind(panic);
    }
    assert!(!is_slow, "{name}: an input took {elapsed:?}");
    elapsed
}

fn shortened(input: &[u8]) -> String {
    String::from_utf8_lossy(&input[..input.len().min(300)]).into_owned()
}

/// The inputs in a folder and the folders in it, in the order of their names: files without extension, and manifests.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    entries
        .into_iter()
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_none_or(|extension| extension == "yaml"))
        .collect()
}
