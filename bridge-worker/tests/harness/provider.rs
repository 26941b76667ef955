//! An identity provider: a token endpoint with TLS that does what a test tells it, and tokens that Kafka can check.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use millrace_testkit::Issued;
use rcgen::{KeyPair, SigningKey as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The only scope there is.
pub(crate) const SCOPE: &str = "kafka";
/// Whom tokens are for, unless another audience is asked for.
pub(crate) const AUDIENCE: &str = "kafka-of-the-plant";
pub(crate) const ISSUER: &str = "https://provider.example";

/// Signs tokens (ES256).
pub(crate) struct Signer(KeyPair);

impl Signer {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(KeyPair::generate().expect("a key")))
    }

    /// Writes the public key as Kafka reads it.
    pub(crate) fn publish(&self, file: &Path) {
        let point = self.0.public_key_raw();
        let [x, y] = [&point[1..33], &point[33..65]].map(|half| URL_SAFE_NO_PAD.encode(half));
        let keys = format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"1","alg":"ES256","use":"sig","x":"{x}","y":"{y}"}}]}}"#
        );
        std::fs::write(file, keys).expect("a file");
    }

    fn token(&self, claims: &str) -> String {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!(
            "{}.{}",
            encode(r#"{"alg":"ES256","kid":"1","typ":"JWT"}"#),
            encode(claims)
        );
        let signature = self.0.sign(signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(halves(&signature)))
    }
}

/// A signature in DER as JWTs have it: two numbers of 32 bytes.
fn halves(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut out = Vec::new();
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
        out.resize(out.len() + 32 - number.len(), 0);
        out.extend_from_slice(number);
        rest = &rest[2 + length..];
    }
    out
}

/// What the endpoint does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Does {
    /// Gives a token to the client with the right secret, for the scope there is.
    Grant,
    /// Always the same.
    Answer(u16, String),
    /// Nothing, and holds the connection.
    Nothing,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) secret: String,
    pub(crate) granted: bool,
}

struct State {
    does: Does,
    secret: String,
    life: Duration,
    asked: Vec<Asked>,
    tokens: Vec<String>,
}

/// The endpoint. Its thread ends with the process.
pub(crate) struct Provider {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Provider {
    /// Shows this certificate, and knows one client, `bridge`, by its secret.
    pub(crate) fn start(shows: &Issued, signer: &Arc<Signer>, secret: &str, life: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State {
            does: Does::Grant,
            secret: secret.to_owned(),
            life,
            asked: Vec::new(),
            tokens: Vec::new(),
        }));
        let config = Arc::new(config(shows));
        let (of_thread, signer) = (Arc::clone(&state), Arc::clone(signer));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (config, state) = (Arc::clone(&config), Arc::clone(&of_thread));
                let signer = Arc::clone(&signer);
                // A client that does not trust what it is shown leaves.
                std::thread::spawn(move || serve(socket, config, &state, &signer).ok());
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/token", self.port)
    }

    pub(crate) fn does(&self, does: Does) {
        self.state().does = does;
    }

    /// The client's secret is this one from now on.
    pub(crate) fn set_secret(&self, secret: &str) {
        self.state().secret = secret.to_owned();
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// The tokens that it has given.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.state().tokens.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config(shows: &Issued) -> ServerConfig {
    let chain = CertificateDer::pem_file_iter(shows.certificate()).expect("a certificate");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(shows.key()).expect("a key");
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key")
}

fn serve(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    state: &Mutex<State>,
    signer: &Signer,
) -> std::io::Result<()> {
    let session = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(session, socket);
    let request = read(&mut stream)?;
    let (status, body) = match answer(&request, &mut lock(state), signer) {
        Some(answer) => answer,
        None => {
            // Until the client has had enough.
            stream.read_to_end(&mut Vec::new())?;
            return Ok(());
        }
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Head and body of a request.
fn read(stream: &mut impl Read) -> std::io::Result<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        text.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&text).into_owned();
    let length = field(&head, "content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(head + &String::from_utf8_lossy(&body))
}

fn field<'t>(head: &'t str, name: &str) -> Option<&'t str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.find(|(one, _)| one.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value)
}

fn answer(request: &str, state: &mut State, signer: &Signer) -> Option<(u16, String)> {
    let login = field(request, "authorization").and_then(|login| login.strip_prefix("Basic "));
    let login = STANDARD.decode(login.unwrap_or_default()).unwrap_or_default();
    let login = String::from_utf8_lossy(&login).into_owned();
    let (id, secret) = login.split_once(':').unwrap_or(("", ""));
    let form: BTreeMap<&str, &str> = request
        .rsplit_once("\r\n\r\n")
        .map_or("", |(_, form)| form)
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let answer = match &state.does {
        Does::Nothing => None,
        Does::Answer(status, body) => Some((*status, body.clone())),
        Does::Grant if id != "bridge" || secret != state.secret => {
            // Some do say more than they should.
            let body = format!(
                r#"{{"error":"invalid_client","error_description":"no client with secret {secret}"}}"#
            );
            Some((401, body))
        }
        Does::Grant if form.get("scope").is_some_and(|scope| *scope != SCOPE) => {
            let body = r#"{"error":"invalid_scope","error_description":"there is no such scope"}"#;
            Some((400, body.into()))
        }
        Does::Grant => {
            let audience = form.get("audience").copied().unwrap_or(AUDIENCE);
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            // Each is another.
            let claims = format!(
                r#"{{"iss":"{ISSUER}","sub":"plant","aud":"{audience}","scope":"{SCOPE}","jti":"{}","iat":{},"exp":{}}}"#,
                state.tokens.len(),
                now.as_secs(),
                (now + state.life).as_secs(),
            );
            let token = signer.token(&claims);
            state.tokens.push(token.clone());
            let body = format!(
                r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{}}}"#,
                state.life.as_secs()
            );
            Some((200, body))
        }
    };
    let granted = matches!(answer, Some((200, _)));
    state.asked.push(Asked {
        secret: secret.to_owned(),
        granted,
    });
    answer
}
