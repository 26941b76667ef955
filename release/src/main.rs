//! `millrace-sbom`: called by `scripts/image.sh` and by the Dockerfile.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use millrace_release::sbom::{Image, Program};
use millrace_release::{crates, debian, sbom};

/// Lists what is in the programs and in the image.
#[derive(Parser)]
#[command(name = "millrace-sbom", version)]
enum Command {
    /// The crates in a program, as `cargo auditable` puts them into its section .dep-v0; run in the workspace
    Crates {
        /// The program's name
        program: String,
    },
    /// The software bill of materials of an image, in CycloneDX's JSON; run in the workspace
    Image {
        /// The image's name
        #[arg(long, default_value = "millrace.dev/millrace")]
        name: String,
        /// A folder with usr/lib/os-release and var/lib/dpkg/status.d of the image
        #[arg(long)]
        base: PathBuf,
        /// The programs, which carry the list of their crates
        #[arg(required = true)]
        programs: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    match print(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(command: Command) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    match command {
        Command::Crates { program } => {
            let list = crates::Metadata::of_workspace()?.crates_of(&program)?;
            stdout.write_all(&crates::compressed(&list)?)?;
        }
        Command::Image { name, base, programs } => {
            let programs = programs
                .iter()
                .map(|path| Program::read(path).with_context(|| path.display().to_string()));
            let image = Image {
                name,
                made_at: sbom::source_date()?,
                system: debian::System::read(&base)?,
                packages: debian::packages(&base)?,
                programs: programs.collect::<Result<_, _>>()?,
            };
            let known = crates::Metadata::of_workspace()?.published();
            serde_json::to_writer_pretty(&stdout, &image.bill_of_materials(&known))?;
            writeln!(stdout)?;
        }
    }
    Ok(())
}
