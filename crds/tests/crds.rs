//! The generated definitions: up to date, described, bounded.

use std::path::Path;

use millrace_crds::crd_files;

/// Set to write the files of `crds/` instead of comparing them.
const UPDATE: &str = "UPDATE";

#[test]
fn the_files_are_what_the_api_types_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, expected) in crd_files().unwrap() {
        let path = folder.join(&name);
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == expected,
            "crds/{name} is not what the API types say; write it with\n  UPDATE=1 cargo test --release -p millrace-crds --test crds"
        );
    }
}
