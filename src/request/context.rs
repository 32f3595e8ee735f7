//! What a layer knows of a request beside the token's facts, for what is inside: the one private extension.

use std::sync::Arc;

use http::Extensions;

use crate::{
    authorize::Require,
    credentials::Scheme,
    introspect::{Presented, Sent},
    observe::limited,
    rejection::{Refuser, Rejection},
    store::{Key, Thumbprint},
    token::{Properties, Scopes, TokenInfo},
    verdict::Verdict,
    verify::{Freshness, Resolving, Verifier},
};

/// What the nearest layer outside knows of a request. Each layer that lets a request pass replaces it
/// together with [`TokenInfo`], [`Scopes`] and [`Properties`], so that nothing inside goes by what another
/// layer left.
///
/// Without one, what is usual holds: a bearer token whose facts are complete, of the layer that is named in
/// the facts.
#[derive(Clone)]
pub(crate) struct AuthContext {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) scheme: Scheme,
    /// How to ask about a token that is known by what issued it.
    pub(crate) recheck: Option<Recheck>,
    /// The proof that came with the request, which is used up.
    pub(crate) proven: Option<Proven>,
    pub(crate) after: AfterResponse,
}

/// What is done to the response: once, by the outermost layer of the same handle.
#[derive(Clone, Copy, Default)]
pub(crate) struct AfterResponse {
    /// It tells a new value of the token.
    pub(crate) rotates: bool,
    pub(crate) signs: bool,
    /// A layer outside, of whatever handle, wants to know whether the response refuses the request.
    pub(crate) watched: bool,
}

/// A proof that is used up.
#[derive(Clone)]
pub(crate) struct Proven {
    /// Of the token that it came with.
    pub(crate) key: Key,
    /// What was known of the token.
    pub(crate) token: TokenInfo,
    /// Whether Authlete was asked with the proof.
    pub(crate) sent: Sent,
}

impl AuthContext {
    /// The context that a layer of this verifier left in a request.
    pub(crate) fn of<'e>(extensions: &'e Extensions, verifier: &Arc<Verifier>) -> Option<&'e Self> {
        extensions.get::<Self>().filter(|it| Arc::ptr_eq(&it.verifier, verifier))
    }

    /// Takes away the context that another layer left, and tells what is done to the response: only what
    /// layers of this verifier do, and whether any of all looks at it.
    #[inline]
    pub(crate) fn take(extensions: &mut Extensions, verifier: &Arc<Verifier>) -> AfterResponse {
        let context = if extensions.is_empty() { None } else { extensions.remove::<Self>() };
        match context {
            Some(context) if Arc::ptr_eq(&context.verifier, verifier) => context.after,
            Some(context) => {
                AfterResponse { watched: context.after.watched, ..AfterResponse::default() }
            }
            None => AfterResponse::default(),
        }
    }

    /// Whether a layer outside wants to know whether the response refuses the request.
    pub(crate) fn is_watched(extensions: &Extensions) -> bool {
        extensions.get::<Self>().is_some_and(|context| context.after.watched)
    }

    /// How to refuse a request inside of the nearest layer.
    pub(crate) fn guard(extensions: &Extensions) -> Option<&Refuser> {
        match extensions.get::<Self>() {
            Some(context) => Some(&context.verifier.guard),
            None => extensions.get::<TokenInfo>().and_then(TokenInfo::refuser),
        }
    }

    /// By which scheme the token was presented to the nearest layer.
    pub(crate) fn scheme(extensions: &Extensions) -> Scheme {
        extensions.get::<Self>().map_or(Scheme::Bearer, |context| context.scheme)
    }

    /// Lets what is inside know that there is a layer, and no token.
    pub(crate) fn insert_anonymous(extensions: &mut Extensions, verifier: &Arc<Verifier>) {
        let after = Self::take(extensions, verifier);
        extensions.remove::<TokenInfo>();
        extensions.remove::<Scopes>();
        extensions.remove::<Properties>();
        extensions.insert(Self {
            verifier: verifier.clone(),
            scheme: Scheme::Bearer,
            recheck: None,
            proven: None,
            after,
        });
    }
}

/// How to ask about a token that is known by what issued it.
#[derive(Clone)]
pub(crate) struct Recheck {
    pub(crate) presented: Arc<Presented>,
    pub(crate) freshness: Freshness,
    pub(crate) admission: Admission,
}

impl Recheck {
    pub(crate) fn ask(&self, verifier: &Arc<Verifier>) -> Resolving {
        Box::pin(verifier.clone().resolve(self.presented.clone(), self.freshness))
    }
}

/// What a layer demands of a good token of this request.
#[derive(Clone)]
pub(crate) struct Admission {
    pub(crate) require: Option<Require>,
    /// The client certificate of the connection.
    pub(crate) certificate: Option<Thumbprint>,
    /// Whether responses can be signed.
    pub(crate) signs: bool,
}

impl Admission {
    /// Whether a good token may be used for this request.
    pub(crate) fn allow(&self, token: TokenInfo, verifier: &Verifier) -> Verdict {
        let Self { require, certificate, signs } = self;
        allow(token, certificate.as_ref(), *signs, require.as_ref(), verifier)
    }
}

/// Whether a good token may be used for a request: over a connection with this client certificate, if
/// responses are signed or not, and by what the layer requires.
#[inline]
pub(crate) fn allow(
    token: TokenInfo,
    certificate: Option<&Thumbprint>,
    signs: bool,
    require: Option<&Require>,
    verifier: &Verifier,
) -> Verdict {
    if !token.is_bound_to(certificate) {
        let description = "the access token is bound to another client certificate";
        return Err(Rejection::invalid_token(description));
    }
    if token.needs_signed_response() && !signs {
        limited!(
            error,
            verifier.log,
            "an access token takes signed responses, and none are made for it; give a signer by \
             `MessageSignatures::signer`"
        );
        return Err(Rejection::misconfigured("responses cannot be signed here"));
    }
    if let Some(require) = require {
        require.check_known(&token, &verifier.clock)?;
    }
    Ok(token)
}
