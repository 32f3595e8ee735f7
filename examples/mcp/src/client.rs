//! A client that knows no more than the server's URL and its own credentials.

use std::{error::Error, fmt};

use rmcp::{
    ErrorData, RoleClient, ServiceError, ServiceExt,
    model::{CallToolRequestParams, JsonObject},
    service::{ClientInitializeError, RunningService},
    transport::{
        AuthClient, AuthorizationManager, ClientCredentialsConfig, StreamableHttpClientTransport,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::Value;

type BoxError = Box<dyn Error + Send + Sync>;
type Connection = RunningService<RoleClient, ()>;

/// A client that is registered at the authorization server.
pub struct Credentials {
    /// Its ID.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
}

/// What has happened.
#[derive(Debug)]
pub struct Story {
    /// The challenge by which it was refused without a token.
    pub challenge: String,
    /// How the authorization server was found.
    pub found: String,
    /// Where tokens are issued.
    pub token_endpoint: String,
    /// The names of the tools.
    pub tools: Vec<String>,
    /// What the tool says that takes no further scope.
    pub listed: String,
    /// Why the tool is refused that does.
    pub refused: ErrorData,
    /// What it says when the token has the scope.
    pub added: String,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "without a token: 401\n    www-authenticate: {}", self.challenge)?;
        writeln!(f, "found by {}: tokens are issued at {}", self.found, self.token_endpoint)?;
        writeln!(f, "with a token for notes.read, the tools are: {}", self.tools.join(", "))?;
        writeln!(f, "list_notes: {}", self.listed)?;
        let ErrorData { code, message, data, .. } = &self.refused;
        let data = data.as_ref().unwrap_or(&Value::Null);
        writeln!(f, "add_note is refused: {}: {message} {data}", code.0)?;
        write!(f, "with a token for notes.write as well, add_note: {}", self.added)
    }
}

/// Goes from the first refusal to the call of a tool that takes a further scope.
///
/// # Errors
/// If something else happens on the way.
pub async fn run(resource: &str, credentials: &Credentials) -> Result<Story, BoxError> {
    let challenge = refusal(resource).await?;

    let mut manager = AuthorizationManager::new(resource).await?;
    let resolved = manager.resolve_metadata_from_challenge(Some(&challenge)).await?;
    let found = format!("{:?}", resolved.source);
    let token_endpoint = resolved.metadata.token_endpoint.clone();
    manager.set_metadata(resolved.metadata.clone());

    let manager = authorize(manager, resource, credentials, &["notes.read"]).await?;
    let reader = connect(resource, manager).await?;
    let tools = reader.list_all_tools().await?.into_iter().map(|tool| tool.name.into()).collect();
    let listed = call(&reader, list_notes()).await?;
    let Err(ServiceError::McpError(refused)) = call(&reader, add_note()).await else {
        return Err("a tool was not refused that takes a further scope".into());
    };
    reader.cancel().await?;

    // The refusal tells the scope that is missing.
    let missing = refused.data.as_ref().and_then(|data| data["scope"].as_str()).unwrap_or_default();
    let mut manager = AuthorizationManager::new(resource).await?;
    manager.set_metadata(resolved.metadata);
    let manager = authorize(manager, resource, credentials, &["notes.read", missing]).await?;
    let writer = connect(resource, manager).await?;
    let added = call(&writer, add_note()).await?;
    writer.cancel().await?;
    Ok(Story { challenge, found, token_endpoint, tools, listed, refused, added })
}

/// The challenge that a client without a token is given.
async fn refusal(resource: &str) -> Result<String, BoxError> {
    match connect(resource, AuthorizationManager::new(resource).await?).await {
        Ok(_) => Err("a client without a token was let in".into()),
        Err(error) => match error.auth_challenge() {
            Some(challenge) => Ok(challenge.into()),
            None => Err(error.into()),
        },
    }
}

/// Has a token issued to the client itself, for the resource and with these scopes.
async fn authorize(
    mut manager: AuthorizationManager,
    resource: &str,
    credentials: &Credentials,
    scopes: &[&str],
) -> Result<AuthorizationManager, BoxError> {
    let config = ClientCredentialsConfig::ClientSecret {
        client_id: credentials.client_id.clone(),
        client_secret: credentials.client_secret.clone(),
        scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
        resource: Some(resource.into()),
    };
    manager.validate_client_credentials_metadata(&config)?;
    manager.configure_client_credentials(&config)?;
    manager.exchange_client_credentials(&config).await?;
    Ok(manager)
}

/// Connects, with the manager's token if it has one.
async fn connect(
    resource: &str,
    manager: AuthorizationManager,
) -> Result<Connection, Box<ClientInitializeError>> {
    let transport = StreamableHttpClientTransport::with_client(
        AuthClient::new(reqwest::Client::default(), manager),
        StreamableHttpClientTransportConfig::with_uri(resource),
    );
    ().serve(transport).await.map_err(Box::new)
}

async fn call(client: &Connection, tool: CallToolRequestParams) -> Result<String, ServiceError> {
    let result = client.call_tool(tool).await?;
    let texts = result.content.iter().filter_map(|content| content.as_text());
    Ok(texts.map(|text| text.text.as_str()).collect())
}

fn list_notes() -> CallToolRequestParams {
    CallToolRequestParams::new("list_notes")
}

fn add_note() -> CallToolRequestParams {
    let arguments = JsonObject::from_iter([("text".into(), "buy milk".into())]);
    CallToolRequestParams::new("add_note").with_arguments(arguments)
}
