//! Tokens for OAUTHBEARER.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, NulError, c_char};

use rdkafka::ClientContext;
use rdkafka::bindings as sys;
use rdkafka::client::{Client, OAuthToken};
use rdkafka::error::IsError as _;

/// Room for what librdkafka says of a token.
const SAYS_BYTES: usize = 512;

/// Gives a client a token, and SASL extensions with it, before it asks for one: rdkafka hands the question on only while the
/// client is polled, its `AdminClient` never is, and its answer to the question has no room for extensions.
///
/// # Errors
/// What librdkafka says. It says all of a token that has other characters than visible ASCII in it.
pub fn set_token<C: ClientContext>(
    client: &Client<C>,
    token: OAuthToken,
    extensions: &BTreeMap<String, String>,
) -> Result<(), String> {
    let no_text = |_: NulError| "it has a zero byte in it".to_owned();
    let value = CString::new(token.token).map_err(no_text)?;
    let principal = CString::new(token.principal_name).map_err(no_text)?;
    let texts: Result<Vec<CString>, NulError> = extensions
        .iter()
        .flat_map(|(name, value)| [name.as_str(), value])
        .map(CString::new)
        .collect();
    let texts = texts.map_err(no_text)?;
    let mut pairs: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
    let mut says = vec![0_u8; SAYS_BYTES];
    // SAFETY: the client is alive; all texts are C strings that live over the call, which copies them; `pairs` has as many
    // of them as are named; `says` has room for as many bytes as are named.
    let error = unsafe {
        sys::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            pairs.as_mut_ptr(),
            pairs.len(),
            says.as_mut_ptr().cast(),
            says.len(),
        )
    };
    if !error.is_error() {
        return Ok(());
    }
    let says = CStr::from_bytes_until_nul(&says)
        .map_or_else(|_| String::new(), |says| says.to_string_lossy().into_owned());
    Err(says)
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::producer::{BaseProducer, Producer as _};

    use super::*;

    fn given(extensions: &[(&str, &str)]) -> Result<(), String> {
        let client: BaseProducer = ClientConfig::new()
            .set("security.protocol", "sasl_plaintext")
            .set("sasl.mechanism", "OAUTHBEARER")
            .create()
            .map_err(|error| error.to_string())?;
        let token = OAuthToken {
            token: "opaque".into(),
            principal_name: String::new(),
            lifetime_ms: i64::MAX / 1_000,
        };
        let pairs = extensions.iter();
        let extensions = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        set_token(client.client(), token, &extensions.collect())
    }

    #[test]
    fn extensions_come_to_librdkafka_by_name_and_value() {
        assert_eq!(given(&[]), Ok(()));
        assert_eq!(
            given(&[("identityPoolId", "pool-1"), ("logicalCluster", "lkc-1")]),
            Ok(())
        );
        // Each is looked at: it refuses the name that the token itself has, and a value that cannot be sent.
        let refused = |extensions: &[_]| given(extensions).map_or_else(|why| why, |()| String::new());
        assert!(refused(&[("logicalCluster", "lkc-1"), ("auth", "x")]).contains("reserved"));
        assert!(refused(&[("logicalCluster", "é")]).contains("extension values"));
        assert!(refused(&[("logicalCluster", "a\0b")]).contains("zero byte"));
    }
}
