//! Tokens for OAUTHBEARER.

use std::ffi::{CStr, CString};

use rdkafka::ClientContext;
use rdkafka::bindings as sys;
use rdkafka::client::{Client, OAuthToken};
use rdkafka::error::IsError as _;

/// Room for what librdkafka says of a token.
const SAYS_BYTES: usize = 512;

/// Gives a client a token before it asks for one: rdkafka hands the question on only while the client is polled, and its
/// `AdminClient` never is.
///
/// # Errors
/// What librdkafka says of the token, which is never part of it.
pub fn set_token<C: ClientContext>(client: &Client<C>, token: OAuthToken) -> Result<(), String> {
    let no_text = |_| "it has a zero byte in it".to_owned();
    let value = CString::new(token.token).map_err(no_text)?;
    let principal = CString::new(token.principal_name).map_err(no_text)?;
    let mut says = vec![0_u8; SAYS_BYTES];
    // SAFETY: the client is alive; both texts are C strings that live over the call, which copies them; `says` has room for
    // as many bytes as are named; there are no extensions.
    let error = unsafe {
        sys::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
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
