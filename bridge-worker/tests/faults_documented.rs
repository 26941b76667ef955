//! `docs/guarantees.md` names a test for what it promises: each of them exists.

use std::path::Path;

#[test]
fn every_test_the_guarantees_name_exists() {
    let root = Path::new(".");
    let page = std::fs::read_to_string(root.join("../docs/guarantees.md")).unwrap();
    // `file::test`, between backticks.
    let named: Vec<_> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once("::"))
        .collect();
    assert!(named.len() >= 20, "{named:?}");
    for (file, test) in named {
        let source = std::fs::read_to_string(root.join(format!("tests/{file}.rs"))).unwrap_or_default();
        assert!(
            source.contains(&format!("#[test]\nfn {test}()")),
            "docs/guarantees.md names {file}::{test}, which does not exist"
        );
    }
}
