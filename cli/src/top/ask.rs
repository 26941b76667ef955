//! Asks a process for its status.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use millrace_contract::status::Status;
use millrace_operator::cluster::source_of;
use serde::Deserialize;

use super::error::AskError;

/// How long a process may take. A worker that is well answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// No status is larger: a lane takes some 300 bytes of it.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// The answer of `path`.
pub(crate) async fn ask(client: &Client, path: &str) -> Result<Status, AskError> {
    let request = http::Request::get(path).body(Body::empty());
    let request = request.map_err(|error| AskError::Failed(error.to_string()))?;
    let answer = tokio::time::timeout(PATIENCE, async {
        let failed = |error: &dyn std::error::Error| AskError::Failed(source_of(error));
        let response = client.send(request).await.map_err(|error| failed(&error))?;
        let code = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body
            .map_err(|error| AskError::Failed(error.to_string()))?
            .to_bytes();
        match code {
            http::StatusCode::FORBIDDEN => Err(AskError::Forbidden(said(&body))),
            code if !code.is_success() => Err(AskError::Failed(format!("{code}: {}", said(&body)))),
            _ => serde_json::from_slice(&body)
                .map_err(|error| AskError::Failed(format!("its answer is no status: {error}"))),
        }
    });
    answer.await.unwrap_or(Err(AskError::Late(PATIENCE)))
}

/// The API server answers with an object, a worker with text.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    let text = String::from_utf8_lossy(body);
    serde_json::from_slice(body).map_or_else(
        |_| text.trim().chars().take(200).collect(),
        |refusal: Refusal| refusal.message,
    )
}
