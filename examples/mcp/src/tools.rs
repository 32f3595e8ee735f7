//! The tools. What a tool takes beyond what every request takes, it looks for in the token.

use std::sync::{Arc, Mutex, PoisonError};

use http::request::Parts;
use rmcp::{
    ErrorData,
    handler::server::{tool::Extension, wrapper::Parameters},
    model::ErrorCode,
    tool, tool_router,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tower_authlete::TokenInfo;

/// A tool is refused for want of a scope. JSON-RPC leaves the codes around it to servers.
pub const INSUFFICIENT_SCOPE: ErrorCode = ErrorCode(-32050);

/// Notes that can be listed and added to.
#[derive(Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

#[derive(Deserialize, JsonSchema)]
struct Note {
    /// What it says.
    text: String,
}

#[tool_router(server_handler)]
impl Notes {
    /// Lists the notes.
    #[tool]
    async fn list_notes(&self) -> String {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.is_empty() { "no notes".into() } else { notes.join("\n") }
    }

    /// Adds a note. Takes the scope notes.write.
    #[tool]
    async fn add_note(
        &self,
        Parameters(Note { text }): Parameters<Note>,
        // The request that the call came with. What the layer knows is in its extensions.
        Extension(request): Extension<Parts>,
    ) -> Result<String, ErrorData> {
        let token = token_with_scope(&request, "notes.write")?;
        let author = token.client_id_alias().unwrap_or("somebody");
        let note = format!("{text} ({author})");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note.clone());
        Ok(note)
    }
}

fn token_with_scope<'a>(request: &'a Parts, scope: &str) -> Result<&'a TokenInfo, ErrorData> {
    let token = request.extensions.get::<TokenInfo>();
    let token = token.ok_or_else(|| ErrorData::internal_error("no AuthLayer is outside", None))?;
    if token.scopes().contains(scope) {
        return Ok(token);
    }
    let data = json!({ "error": "insufficient_scope", "scope": scope });
    Err(ErrorData::new(INSUFFICIENT_SCOPE, "this tool takes a further scope", Some(data)))
}
