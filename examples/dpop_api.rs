//! An API whose access tokens are bound to a key (DPoP, RFC 9449), beside bearer tokens.
//!
//! ```sh
//! cargo run --example dpop_api --features dpop,emulator
//! ```
//!
//! It listens on `PORT` (default 3000; 0 picks a port) and prints a token, the private key that it is
//! bound to, and lines to paste. Any DPoP client can use them; this one makes proofs, too:
//!
//! ```sh
//! PROOF=$(cargo run -q --example dpop_api --features dpop,emulator -- proof GET http://127.0.0.1:3000/hello)
//! ```
//!
//! for the key in `DPOP_JWK` and the token in `DPOP_TOKEN`.

use std::{env, error::Error, time::SystemTime};

use axum::{Router, routing::get};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tower_authlete::{AuthLayer, Dpop, ProblemDetails, Require, TokenInfo, emulator::Emulator};

type Fallible<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Fallible<()> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).init();
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [command, method, url] = &arguments[..] {
        if command != "proof" {
            return Err("usage: dpop_api [proof METHOD URL]".into());
        }
        let key = Key::from_jwk(&serde_json::from_str(&env::var("DPOP_JWK")?)?)?;
        println!("{}", key.proof(method, url, &env::var("DPOP_TOKEN")?)?);
        return Ok(());
    }

    let port = env::var("PORT").unwrap_or_else(|_| "3000".into()).parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let emulator = Emulator::start().await;
    print_lines(&url, &emulator).await?;

    let auth = AuthLayer::builder(emulator.authlete())
        .dpop(Dpop::for_origin(url))
        .renderer(ProblemDetails)
        .build()?;
    let admin = get(|| async { "admin\n" }).route_layer(Require::scopes(["admin"]));
    let app = Router::new().route("/hello", get(hello)).route("/admin", admin).layer(auth);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn hello(token: TokenInfo) -> String {
    format!("hello {}\n", token.subject().unwrap_or("service"))
}

async fn print_lines(url: &str, emulator: &Emulator) -> Fallible<()> {
    let key = Key::generate()?;
    let alice = || emulator.token().subject("alice").scopes(["profile"]);
    let bound = alice().dpop_key_thumbprint(key.thumbprint()).issue().await;
    let bearer = alice().issue().await;
    let hello = format!("{url}/hello");
    println!("listening on {url}; tokens are checked by an emulator of Authlete. Paste:\n");
    println!("DPOP_TOKEN={bound}\nBEARER_TOKEN={bearer}\nDPOP_JWK='{}'\n", key.private_jwk());
    println!(
        "# A proof is good once, for a minute. For more, see the top of examples/dpop_api.rs."
    );
    println!("PROOF={}\n", key.proof("GET", &hello, &bound)?);
    let bearer = |token: &str| format!("curl -i {hello} -H \"Authorization: Bearer ${token}\"");
    let proven = |path: &str| {
        format!("curl -i {url}{path} -H \"Authorization: DPoP $DPOP_TOKEN\" -H \"DPoP: $PROOF\"")
    };
    for (status, why, line) in [
        (200, "a bearer token", bearer("BEARER_TOKEN")),
        (401, "no token: both schemes are challenged", format!("curl -i {hello}")),
        (401, "a bound token is no bearer token", bearer("DPOP_TOKEN")),
        (401, "the proof is for another URL", proven("/admin")),
        (200, "with its proof", proven("/hello")),
        (401, "a copy of the proof", proven("/hello")),
    ] {
        println!("# {status}: {why}\n{line}");
    }
    Ok(())
}

/// A client's key (P-256).
struct Key {
    /// With the private member `d`.
    jwk: Value,
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Key {
    fn generate() -> Fallible<Self> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(|_| "no random numbers")?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
                .map_err(|rejected| rejected.to_string())?;
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        // Where the private number is in what ring writes for this curve.
        let d = &pkcs8.as_ref()[36..68];
        let [x, y, d] = [x, y, d].map(|number| BASE64.encode(number));
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "d": d });
        Ok(Self { jwk, pair, random })
    }

    fn from_jwk(jwk: &Value) -> Fallible<Self> {
        let number = |name: &str| BASE64.decode(jwk[name].as_str().unwrap_or_default());
        let point = [&[4][..], &number("x")?, &number("y")?].concat();
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let d = number("d")?;
        let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &d, &point, &random)
            .map_err(|rejected| rejected.to_string())?;
        Ok(Self { jwk: jwk.clone(), pair, random })
    }

    fn private_jwk(&self) -> String {
        self.jwk.to_string()
    }

    /// RFC 7638.
    fn thumbprint(&self) -> String {
        let (x, y) = (&self.jwk["x"], &self.jwk["y"]);
        BASE64.encode(Sha256::digest(format!(r#"{{"crv":"P-256","kty":"EC","x":{x},"y":{y}}}"#)))
    }

    fn proof(&self, method: &str, url: &str, token: &str) -> Fallible<String> {
        let (x, y) = (&self.jwk["x"], &self.jwk["y"]);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "jti": format!("{:032x}", rand::random::<u128>()),
            "htm": method,
            "htu": url,
            "iat": now,
            "ath": BASE64.encode(Sha256::digest(token)),
        });
        let message =
            format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = self.pair.sign(&self.random, message.as_bytes());
        let signature = signature.map_err(|_| "the proof could not be signed")?;
        Ok(format!("{message}.{}", BASE64.encode(signature)))
    }
}
