//! `docs/guarantees.md` and `docs/threat-model.md` name a test for what they promise: each of them exists.

use std::path::Path;

const IN_A_CLUSTER: &str = "#[ignore = \"needs a cluster: make e2e-full\"]\n";

#[test]
fn every_test_the_guarantees_name_exists() {
    let root = Path::new(".");
    let page = std::fs::read_to_string(root.join("../docs/guarantees.md")).unwrap();
    // `file::test` or `folder::file::test`, between backticks.
    let named: Vec<_> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.rsplit_once("::"))
        .collect();
    assert!(named.len() >= 20, "{named:?}");
    for (file, test) in named {
        let file = file.replace("::", "/");
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
            "docs/guarantees.md names {test} in {file}.rs, which does not exist"
        );
    }
}

#[test]
fn every_test_the_threat_model_names_exists() {
    let page = std::fs::read_to_string("../docs/threat-model.md").unwrap();
    let named = page.split('`').skip(1).step_by(2);
    let named: Vec<_> = named.filter(|code| code.contains(".rs")).collect();
    assert!(named.len() >= 15, "{named:?}");
    for code in named {
        let (file, test) = code.split_once("::").unwrap_or((code, ""));
        let source = std::fs::read_to_string(Path::new("..").join(file)).unwrap_or_default();
        assert!(
            !source.is_empty() && source.contains(&format!("fn {test}")),
            "docs/threat-model.md names {code}, which does not exist"
        );
    }
}
