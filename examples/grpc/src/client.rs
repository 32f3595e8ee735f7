//! The client: what it is told, with different tokens.

use std::{error::Error, fmt};

use tonic::{Code, Request, Response, Status, transport::Channel};
use tower_authlete::emulator::{Emulator, Fault};

use crate::proto::{ReadRequest, Receipt, Report, reports_client::ReportsClient};

/// What came of a call.
#[derive(Debug)]
pub struct Outcome {
    /// What was tried.
    pub call: &'static str,
    /// The call's status.
    pub code: Code,
    /// What was answered, or why not.
    pub message: String,
    /// The `www-authenticate` of the answer's metadata, as in HTTP.
    pub challenge: Option<String>,
}

impl Outcome {
    fn new(call: &'static str, result: Result<String, Status>) -> Self {
        match result {
            Ok(message) => Self { call, code: Code::Ok, message, challenge: None },
            Err(status) => Self {
                call,
                code: status.code(),
                message: status.message().to_owned(),
                challenge: challenge(&status),
            },
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}: {}", self.call, self.code, self.message)?;
        match &self.challenge {
            Some(challenge) => write!(f, "\n    www-authenticate: {challenge}"),
            None => Ok(()),
        }
    }
}

/// Makes calls with good and bad tokens, and one while Authlete is down.
///
/// # Errors
/// If there is no server.
pub async fn calls(url: String, emulator: &Emulator) -> Result<Vec<Outcome>, Box<dyn Error>> {
    let mut client = Client(ReportsClient::connect(url).await?);
    let tokens = Tokens::issue(emulator).await;
    let mut outcomes = vec![
        Outcome::new("alice reads", client.read(Some(&tokens.alice)).await),
        Outcome::new("nobody reads", client.read(None).await),
        Outcome::new("rubbish reads", client.read(Some("rubbish")).await),
        Outcome::new("bob reads", client.read(Some(&tokens.bob)).await),
        Outcome::new("a machine reads", client.read(Some(&tokens.machine)).await),
        Outcome::new("alice files", client.file(&tokens.alice).await),
        Outcome::new("carol files", client.file(&tokens.carol).await),
    ];
    emulator.fault(Fault::status(503));
    let late = client.read(Some(&tokens.dave)).await;
    outcomes.push(Outcome::new("dave reads while Authlete is down", late));
    // What is known is known.
    let known = client.read(Some(&tokens.alice)).await;
    outcomes.push(Outcome::new("alice reads while Authlete is down", known));
    emulator.clear_faults();
    Ok(outcomes)
}

/// Tokens of the emulator.
pub struct Tokens {
    /// May read.
    pub alice: String,
    /// May do nothing here.
    pub bob: String,
    /// May read and file.
    pub carol: String,
    /// May read.
    pub dave: String,
    /// May read, but is for no user.
    pub machine: String,
}

impl Tokens {
    /// Issues them.
    pub async fn issue(emulator: &Emulator) -> Self {
        let read = || emulator.token().scopes(["reports.read"]);
        let both = emulator.token().scopes(["reports.read", "reports.write"]);
        Self {
            alice: read().subject("alice").property("plan", "gold").issue().await,
            bob: emulator.token().subject("bob").scopes(["profile"]).issue().await,
            carol: both.subject("carol").issue().await,
            dave: read().subject("dave").issue().await,
            machine: read().issue().await,
        }
    }
}

struct Client(ReportsClient<Channel>);

impl Client {
    async fn read(&mut self, token: Option<&str>) -> Result<String, Status> {
        let request = with_token(ReadRequest { name: "weekly".into() }, token)?;
        self.0.read(request).await.map(Response::into_inner).map(|report: Report| report.text)
    }

    async fn file(&mut self, token: &str) -> Result<String, Status> {
        let report = Report { name: "weekly".into(), text: "all is well".into() };
        let receipt = self.0.file(with_token(report, Some(token))?).await?;
        let Receipt { subject } = receipt.into_inner();
        Ok(format!("filed by {subject}"))
    }
}

/// gRPC's metadata are HTTP's headers.
fn with_token<T>(message: T, token: Option<&str>) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse();
        let value = value.map_err(|_| Status::invalid_argument("the token is not ASCII"))?;
        request.metadata_mut().insert("authorization", value);
    }
    Ok(request)
}

fn challenge(status: &Status) -> Option<String> {
    status.metadata().get("www-authenticate")?.to_str().ok().map(Into::into)
}
