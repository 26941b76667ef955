//! A file of manifests.

use millrace_contract::{AnyDocument, Value};
use millrace_crds::{ManifestFile, RenderOptions, SessionSource, document, validate};
use millrace_mapping::{Filter, Mapper, RecordMapper};

/// Whatever is in the file: each object is refused with words, or a route of accepted objects can be run.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    let report = validate(&[ManifestFile {
        path: "fuzz.yaml".to_owned(),
        text,
    }]);
    assert!(
        report
            .findings
            .iter()
            .all(|finding| !finding.message.is_empty() && finding.line > 0)
    );
    let options = RenderOptions {
        session: SessionSource::Instance("fuzz"),
        places: &|_| Value::Literal("x".into()),
    };
    for route in &report.objects.routes {
        let (Some(broker), Some(sink)) = (report.objects.broker_of(route), report.objects.sink_of(route))
        else {
            continue;
        };
        let document = match document(route, broker, sink, &options) {
            Ok(document) => document,
            Err(error) => panic!("validation passed what cannot be rendered: {error}"),
        };
        let outcome = match document {
            AnyDocument::ToKafka(document) => {
                let source = &document.live.source;
                let filters = source.subscriptions.iter();
                let filters: Result<Vec<_>, _> = filters.map(|one| Filter::parse(&one.filter)).collect();
                let filters = filters.expect("validation passed a wrong filter");
                Mapper::compile(&document.live.mapping, &filters, source.payload).map(drop)
            }
            AnyDocument::ToMqtt(document) => {
                RecordMapper::compile(&document.live.publishing, document.live.payload).map(drop)
            }
        };
        if let Err(errors) = outcome {
            panic!("validation passed a wrong mapping: {errors:?}");
        }
    }
}
