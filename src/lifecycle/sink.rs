//! Who takes the new value of a rotated access token in place of the client.

use std::{pin::Pin, sync::Arc};

use http::Extensions;

use crate::api::Secret;

type Taking = Pin<Box<dyn Future<Output = ()> + Send>>;

/// In the extensions of a request whose access token a layer outside presents on its own account. A
/// rotation gives the new value to it, and tells the client nothing.
#[derive(Clone)]
pub(crate) struct NewValueSink {
    /// The token whose new values it takes; the request can hold others.
    token: Secret,
    take: Arc<dyn Fn(Secret) -> Taking + Send + Sync>,
}

impl NewValueSink {
    #[cfg(feature = "session")]
    pub(crate) fn new(
        token: Secret,
        take: impl Fn(Secret) -> Taking + Send + Sync + 'static,
    ) -> Self {
        Self { token, take: Arc::new(take) }
    }

    /// The sink for new values of this token.
    pub(crate) fn of(token: &str, extensions: &Extensions) -> Option<Self> {
        extensions.get::<Self>().filter(|sink| sink.token.expose() == token).cloned()
    }

    /// Gives it the new value; ready when it has been taken.
    pub(crate) async fn put(&self, value: Secret) {
        (self.take)(value).await;
    }
}
