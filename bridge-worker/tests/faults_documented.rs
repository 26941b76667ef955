//! `docs/guarantees.md` names a test for what it promises: each of them exists.

use std::path::Path;

const IN_A_CLUSTER: &str = "#[ignore = \"needs a cluster: make e2e-full\"]\n";

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
        let exists = ["tests", "../e2e/tests"].iter().any(|folder| {
            let source =
                std::fs::read_to_string(root.join(format!("{folder}/{file}.rs"))).unwrap_or_default();
            let tests = source.split("#[test]\n").skip(1);
            tests
                .map(|test| test.trim_start_matches(IN_A_CLUSTER))
                .any(|rest| rest.starts_with(&format!("fn {test}()")))
        });
        assert!(
            exists,
            "docs/guarantees.md names {file}::{test}, which does not exist"
        );
    }
}
