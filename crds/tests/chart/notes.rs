use millrace_crds::{ManifestFile, validate};

use crate::helm::{OLDEST, copy, template};

/// What `helm install` says at the end. It asks a cluster before it says anything, so the notes are rendered as part of
/// an object here.
fn notes(values: &str) -> Option<String> {
    let folder = copy();
    let templates = folder.path().join("templates");
    std::fs::rename(templates.join("NOTES.txt"), folder.path().join("files/NOTES.txt")).unwrap();
    std::fs::write(
        templates.join("notes.yaml"),
        "notes: {{ tpl (.Files.Get \"files/NOTES.txt\") . | quote }}\n",
    )
    .unwrap();
    let more = ["--kube-version", OLDEST, "-s", "templates/notes.yaml"];
    let text = template(folder.path(), "millrace", values, &more)?.unwrap();
    let object: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    Some(object["notes"].as_str().unwrap().to_owned())
}

#[test]
fn the_notes_have_a_first_route_that_is_valid_and_short() {
    let Some(notes) = notes("") else { return };
    let (_, rest) = notes.split_once("<<'YAML'\n").unwrap();
    let (manifests, after) = rest.split_once("\nYAML\n").unwrap();
    assert!(manifests.lines().count() <= 40);
    let report = validate(&[ManifestFile {
        path: "NOTES.txt".to_owned(),
        text: manifests.to_owned(),
    }]);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let objects = report.objects;
    assert_eq!(
        (objects.brokers.len(), objects.sinks.len(), objects.routes.len()),
        (1, 1, 1)
    );
    let name = objects.routes[0].metadata.name.as_deref().unwrap();
    let wait = format!("kubectl wait -n default --for=condition=Ready topicroute/{name}");
    assert!(after.contains(&wait), "{after}");
}

#[test]
fn the_notes_say_which_namespaces_are_watched_and_how_to_test() {
    let Some(all) = notes("") else { return };
    assert!(all.contains("It runs routes of all namespaces."));
    assert!(all.contains("helm -n system test millrace --logs"));
    let Some(some) = notes("watchNamespaces: [north, south]\ntest: {enabled: false}") else {
        return;
    };
    assert!(some.contains("It runs routes of: north, south."));
    assert!(some.contains("kubectl apply -n north -f -"));
    assert!(!some.contains(" test millrace"));
    let Some(without) = notes("crds: {install: false}") else {
        return;
    };
    assert!(without.contains("millrace crds | kubectl apply"));
}
