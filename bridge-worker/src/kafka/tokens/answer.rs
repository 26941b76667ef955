//! What the answer of a token endpoint means (RFC 6749, sections 5.1 and 5.2).

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;

use super::{Claims, Client, NoToken, Token, can_be_sent};
use crate::certificates::Validity;

/// The field that says whom to ask for tokens.
pub(super) const FIELD: &str = "the KafkaSink's spec.sasl.oauthBearer.clientCredentials";
/// So much is told of what an endpoint says.
const MAX_TOLD: usize = 200;
/// No token is believed to live longer.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3_600);

/// What an endpoint has answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    /// Its certificate.
    pub(super) shown: Option<Validity>,
}

/// A token.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    /// In seconds. Some write it as text.
    expires_in: Option<serde_json::Value>,
}

/// None.
#[derive(Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// The token in an answer to what was asked at `asked`.
pub(super) fn read(client: &Client, answer: &Answer, asked: SystemTime) -> Result<Token, NoToken> {
    let body = &answer.body;
    if !answer.status.is_success() {
        return Err(refused(client, answer.status, body));
    }
    let unusable = |what: &str| unusable(client, what);
    if serde_json::from_slice::<serde_json::Value>(body).is_err() {
        return Err(unusable("its answer is not JSON"));
    }
    let granted: Granted =
        serde_json::from_slice(body).map_err(|_| unusable("there is no access_token in its answer"))?;
    let is_bearer = |kind: &String| kind.eq_ignore_ascii_case("bearer");
    if !granted.token_type.as_ref().is_none_or(is_bearer) {
        return Err(unusable("its token is none for a bearer (token_type)"));
    }
    if !can_be_sent(&granted.access_token) {
        return Err(unusable(
            "its token is empty, or has characters that no token may have",
        ));
    }
    let claims = Claims::of(&granted.access_token);
    let now = SystemTime::now();
    // Told as a span it does not hang on clocks that differ.
    let told = granted.expires_in.as_ref().and_then(seconds);
    let told = told.map(|seconds| asked + Duration::from_secs(seconds).min(LONGEST));
    let claimed = claims.as_ref().and_then(Claims::expires);
    let expires = match (told, claimed.filter(|claimed| *claimed > now)) {
        (Some(told), Some(claimed)) => told.min(claimed),
        (Some(told), None) => told,
        (None, Some(claimed)) => claimed,
        (None, None) if claimed.is_some() => {
            return Err(unusable(
                "its token has expired already: compare the clocks of the endpoint and of this machine",
            ));
        }
        (None, None) => {
            return Err(unusable(
                "its answer does not say when the token expires (expires_in)",
            ));
        }
    };
    if expires <= now {
        return Err(unusable("its token has expired already (expires_in)"));
    }
    let subject = claims.map(|claims| claims.sub).unwrap_or_default();
    // A zero byte would end it early.
    let subject = Some(subject).filter(|subject| !subject.is_empty() && !subject.contains('\0'));
    Ok(Token {
        text: granted.access_token,
        principal: subject.unwrap_or_else(|| client.id().replace('\0', "")),
        expires,
        extensions: client.extensions().clone(),
        endpoint: answer.shown,
    })
}

fn seconds(told: &serde_json::Value) -> Option<u64> {
    let whole = told
        .as_u64()
        .or_else(|| told.as_f64().map(|seconds| seconds.max(0.0) as u64));
    whole.or_else(|| told.as_str()?.parse().ok())
}

/// What is no answer of a token endpoint.
pub(super) fn unusable(client: &Client, what: &str) -> NoToken {
    NoToken::refused(format!(
        "{}: {what}; check {FIELD}.tokenEndpointUrl: it is token_endpoint in the provider's \
         /.well-known/openid-configuration",
        client.place()
    ))
}

fn refused(client: &Client, status: StatusCode, body: &[u8]) -> NoToken {
    let place = client.place();
    let Ok(refused) = serde_json::from_slice::<Refused>(body) else {
        return match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => NoToken::refused(format!(
                "{place} does not accept the client ({status}); {}",
                fix(client, "invalid_client")
            )),
            _ if status.is_redirection() => {
                unusable(client, &format!("it answers {status}, which is not followed"))
            }
            _ if is_passing(status) => passing(&place, &status),
            _ => unusable(client, &format!("it answers {status}")),
        };
    };
    let code = refused.error.as_str();
    let description = told(client, &refused.error_description);
    let what = match description.is_empty() {
        true => format!("{status}, {}", told(client, code)),
        false => format!("{status}, {}: {description}", told(client, code)),
    };
    if is_passing(status) || ["temporarily_unavailable", "server_error"].contains(&code) {
        return passing(&place, &what);
    }
    NoToken::refused(format!("{place} gives no token ({what}); {}", fix(client, code)))
}

/// Whether it may be another answer in a moment, whoever asks.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
}

fn passing(place: &str, what: &dyn std::fmt::Display) -> NoToken {
    NoToken::away(format!(
        "{place} gives no token now ({what}); it is asked again: look at the provider"
    ))
}

/// What to do about a code of RFC 6749 (section 5.2) or RFC 8707.
fn fix(client: &Client, code: &str) -> String {
    let client = client.name();
    match code {
        "invalid_client" => format!(
            "check the id of the client {client} and its secret in {FIELD}.secretRef, and the client at the provider"
        ),
        "unauthorized_client" | "unsupported_grant_type" => format!(
            "allow the client {client} the client credentials grant at the provider (Keycloak: service accounts)"
        ),
        "invalid_scope" => {
            format!("correct {FIELD}.scope, or give the client {client} that scope at the provider")
        }
        "invalid_target" | "access_denied" => {
            format!("correct {FIELD}.audience, or let the client {client} have tokens for it at the provider")
        }
        _ => format!("compare {FIELD} with what the provider asks for"),
    }
}

/// What an endpoint says, as far as it can be printed.
fn told(client: &Client, text: &str) -> String {
    if client.is_told_by(text) {
        return "what it says has something of the client's Secret in it".into();
    }
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(MAX_TOLD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Result<Token, NoToken> {
        answered_to(&Client::sample(), status, body)
    }

    fn answered_to(client: &Client, status: u16, body: &str) -> Result<Token, NoToken> {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.to_owned().into(),
            shown: None,
        };
        read(client, &answer, SystemTime::now())
    }

    #[track_caller]
    fn says(status: u16, body: &str, is_away: bool, parts: &[&str]) {
        let why = answered(status, body).unwrap_err();
        assert_eq!(why.is_away(), is_away, "{why:?}");
        for part in parts.iter().chain(&["https://idp.example/token"]) {
            assert!(why.text().contains(part), "no {part:?} in {why:?}");
        }
        assert!(!why.text().contains("canary"), "{why:?}");
    }

    #[test]
    fn of_what_is_refused_the_cause_and_the_fix_are_told() {
        says(
            401,
            r#"{"error":"invalid_client","error_description":"Invalid client credentials"}"#,
            false,
            &[
                "401 Unauthorized, invalid_client: Invalid client credentials",
                "\"bridge\"",
                "secretRef",
            ],
        );
        says(401, "<html>", false, &["401", "secretRef"]);
        says(
            400,
            r#"{"error":"invalid_scope"}"#,
            false,
            &["invalid_scope", ".scope"],
        );
        says(
            400,
            r#"{"error":"unauthorized_client"}"#,
            false,
            &["client credentials grant"],
        );
        says(400, r#"{"error":"invalid_target"}"#, false, &[".audience"]);
        says(400, r#"{"error":"invalid_request"}"#, false, &["compare"]);
        says(404, "not here", false, &["404 Not Found", "tokenEndpointUrl"]);
        says(302, "", false, &["302 Found", "not followed", "tokenEndpointUrl"]);
        says(503, "", true, &["503", "asked again"]);
        says(429, r#"{"error":"slow_down"}"#, true, &["slow_down"]);
    }

    #[test]
    fn what_an_endpoint_says_is_not_told_if_the_secret_is_in_it() {
        let body = r#"{"error":"invalid_client","error_description":"bad secret: canary secret"}"#;
        says(401, body, false, &["has something of the client's Secret in it"]);
        let body = r#"{"error":"canary%20secret"}"#;
        says(400, body, false, &["has something of the client's Secret in it"]);
        let long = "x".repeat(10_000);
        let body = format!(r#"{{"error":"invalid_client","error_description":"a\u001b\n{long}"}}"#);
        let why = answered(401, &body).unwrap_err();
        assert!(why.text().len() < 1_000 && !why.text().contains('\u{1b}'));
    }

    #[test]
    fn of_a_secret_with_id_and_secret_exchanged_nothing_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "canary of an id").unwrap();
        let client = Client::sample_of(millrace_contract::Value::File(file.path().to_owned()));
        for description in ["", "no client canary of an id", "no client canary%20of%20an%20id"] {
            let body = format!(r#"{{"error":"invalid_client","error_description":"{description}"}}"#);
            let why = answered_to(&client, 401, &body).unwrap_err();
            assert!(why.text().contains("clientIdKey"), "{why:?}");
            assert!(!why.text().contains("canary"), "{why:?}");
        }
        // Also where the id is a word that every provider says.
        std::fs::write(file.path(), "client").unwrap();
        let client = Client::sample_of(millrace_contract::Value::File(file.path().to_owned()));
        let why = answered_to(&client, 401, r#"{"error":"invalid_client"}"#).unwrap_err();
        assert!(why.text().contains("secretRef"), "{why:?}");
    }

    #[test]
    fn of_what_is_no_token_the_reason_is_told_and_nothing_of_it() {
        says(200, "<html>canary</html>", false, &["is not JSON"]);
        says(200, r#"{"token":"canary"}"#, false, &["no access_token"]);
        says(200, r#"["canary"]"#, false, &["no access_token"]);
        says(
            200,
            r#"{"access_token":"canary\u0001","expires_in":9}"#,
            false,
            &["characters"],
        );
        says(200, r#"{"access_token":"","expires_in":9}"#, false, &["empty"]);
        says(200, r#"{"access_token":"canary"}"#, false, &["expires_in"]);
        says(
            200,
            r#"{"access_token":"canary","expires_in":0}"#,
            false,
            &["expired already"],
        );
        says(
            200,
            r#"{"access_token":"canary","expires_in":9,"token_type":"mac"}"#,
            false,
            &["token_type"],
        );
    }

    #[test]
    fn a_token_lives_as_long_as_is_told_and_no_longer_than_it_claims() {
        use base64::Engine as _;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let left = |body: &str| {
            let token = answered(200, body).unwrap();
            token.expires.duration_since(SystemTime::now()).unwrap().as_secs()
        };
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let jwt = |exp: u64| {
            let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"plant","exp":{exp}}}"#));
            format!("e30.{claims}.x")
        };
        let (early, late) = (jwt(now + 100), jwt(now - 1_000));
        assert_eq!(left(r#"{"access_token":"opaque","expires_in":60}"#), 59);
        assert_eq!(left(r#"{"access_token":"opaque","expires_in":"60"}"#), 59);
        assert_eq!(
            left(&format!(r#"{{"access_token":"{early}","expires_in":3600}}"#)) / 10,
            9
        );
        assert_eq!(left(&format!(r#"{{"access_token":"{early}"}}"#)) / 10, 9);
        // By a clock that is ahead of the endpoint's.
        assert_eq!(
            left(&format!(r#"{{"access_token":"{late}","expires_in":60}}"#)),
            59
        );
        says(
            200,
            &format!(r#"{{"access_token":"{late}"}}"#),
            false,
            &["compare the clocks"],
        );
        let token = answered(200, &format!(r#"{{"access_token":"{early}"}}"#)).unwrap();
        assert_eq!(token.principal, "plant");
    }
}
