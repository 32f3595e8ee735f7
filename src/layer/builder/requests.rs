//! Which requests are admitted, and what becomes of them.

use super::AuthLayerBuilder;
use crate::{
    authorize::Require, credentials::TokenSource, metadata::ProtectedResource, precheck::Precheck,
};

impl<R> AuthLayerBuilder<R> {
    /// What the token of every request must satisfy. If it is called several times, all requirements must be
    /// satisfied. Default: any valid token.
    ///
    /// Behind [`optional`](Self::optional), it applies to requests that present a token. Requests without one
    /// pass.
    pub fn require(mut self, require: impl Into<Require>) -> Self {
        let require = require.into();
        self.options.require = Some(match self.options.require.take() {
            Some(before) => before.and(require),
            None => require,
        });
        self
    }

    /// Lets requests without credentials pass, without a [`TokenInfo`](crate::TokenInfo), whatever the layer
    /// [requires](Self::require). Invalid credentials are still refused. Default: off. For single routes,
    /// see [`AuthLayer::optional`](crate::AuthLayer::optional).
    ///
    /// Routes that need a token then need a [`Require`] layer, such as [`Require::authenticated`], or an axum
    /// extractor, which refuse requests without one with 401.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// A further place to read the token from, beside the `Authorization` header. It can be called several
    /// times. A request with more than one token is 400 (RFC 6750 §2). Default: none.
    pub fn token_source(mut self, source: impl TokenSource) -> Self {
        self.options.sources.push(Box::new(source));
        self
    }

    /// The longest token (bytes) that is checked. Longer ones are refused without a call to Authlete.
    /// Default: 16 KiB; at least 1.
    pub fn max_token_length(mut self, max_token_length: usize) -> Self {
        self.options.max_token_length = max_token_length;
        self
    }

    /// The shape of the service's tokens. Tokens of another shape are refused without a call to Authlete. If it
    /// is called several times, all prechecks must pass. Default: any token.
    ///
    /// ```
    /// # fn example(authlete: tower_authlete::Authlete) -> Result<(), tower_authlete::ConfigError> {
    /// let auth = tower_authlete::AuthLayer::builder(authlete)
    ///     .precheck(|token: &str| token.len() == 43)
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn precheck(mut self, precheck: impl Into<Precheck>) -> Self {
        let precheck = precheck.into();
        self.options.precheck = Some(match self.options.precheck.take() {
            Some(before) => before.and(precheck),
            None => precheck,
        });
        self
    }

    /// Removes the token from the request before it is forwarded: the `Authorization` header, and the header of
    /// any other [source](TokenSource::header). Otherwise these headers are marked sensitive. Default: off.
    pub fn strip_credentials(mut self) -> Self {
        self.options.strip = true;
        self
    }

    /// Inserts only [`TokenInfo`](crate::TokenInfo) into the extensions of requests, which saves two
    /// allocations. [`Scopes`](crate::Scopes) and [`Properties`](crate::Properties) can be had from it. axum's
    /// extractors find all three in any case. Default: all three are inserted.
    pub fn token_info_alone(mut self) -> Self {
        self.options.token_info_alone = true;
        self
    }

    /// The `realm` of challenges (RFC 9110 §11.5): visible ASCII and spaces. Default: none.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.options.challenges.realm = Some(realm.into());
        self
    }

    /// Adds `resource_metadata` to challenges (RFC 9728 §5.1), by which clients find the authorization server.
    /// It neither serves the metadata nor requires that tokens are for this resource: see [`ProtectedResource`]
    /// for both. Default: none.
    pub fn protected_resource(mut self, resource: &ProtectedResource) -> Self {
        self.options.challenges.resource_metadata = Some(resource.metadata_url());
        self
    }

    /// Renders the responses to refused requests, for example as
    /// [`ProblemDetails`](crate::ProblemDetails). Default: [`EmptyBody`](crate::rejection::EmptyBody).
    pub fn renderer<R2>(self, renderer: R2) -> AuthLayerBuilder<R2> {
        AuthLayerBuilder {
            authlete: self.authlete,
            check: self.check,
            clock: self.clock,
            cache: self.cache,
            extension: self.extension,
            rotation: self.rotation,
            resilience: self.resilience,
            #[cfg(feature = "dpop")]
            dpop: self.dpop,
            #[cfg(feature = "redis")]
            fleet: self.fleet,
            optional: self.optional,
            options: self.options,
            renderer,
        }
    }
}
