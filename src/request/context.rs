//! What a layer knows of a request beside the token's facts, for what is inside: the one private extension.

use std::sync::Arc;

use http::Extensions;

use super::authorize::Conditions;
#[cfg(feature = "test-util")]
use crate::{clock::Clock, rejection::Challenges, store::epoch::Epochs};
use crate::{
    credentials::Scheme,
    introspect::{Presented, Sent},
    rejection::Refuser,
    store::Key,
    token::{Properties, Scopes, TokenInfo},
    verify::{Freshness, Resolving, Verifier},
};

/// What the nearest layer outside knows of a request. Each layer that admits a request replaces it
/// together with [`TokenInfo`], [`Scopes`] and [`Properties`], so that nothing inside goes by what another
/// layer left.
///
/// Without one, what is usual holds: a bearer token whose facts are complete, of the layer that is named in
/// the facts.
#[derive(Clone)]
pub(crate) struct AuthContext {
    pub(super) verifier: Arc<Verifier>,
    pub(super) scheme: Scheme,
    /// How to introspect the token, if its facts are from the answer that issued it.
    pub(super) introspection: Option<Introspection>,
    /// The DPoP proof that came with the request.
    pub(super) used_proof: Option<UsedProof>,
    pub(super) response: ResponseHandling,
}

/// Stands for a layer in a request that a test makes one of those admitted. Nothing but
/// [`testing`](crate::testing) inserts it.
#[cfg(feature = "test-util")]
#[derive(Clone)]
pub(crate) struct TestRefuser(Refuser);

#[cfg(feature = "test-util")]
impl TestRefuser {
    pub(crate) fn insert_into(extensions: &mut Extensions) {
        let (challenges, clock) = (Challenges::default(), Clock::system());
        extensions.remove::<AuthContext>();
        extensions.insert(Self(Refuser::new(challenges, clock, Arc::new(Epochs::new()))));
    }

    fn of(extensions: &Extensions) -> Option<&Refuser> {
        extensions.get::<Self>().map(|Self(refuser)| refuser)
    }
}

/// What layers outside do when the response comes. Layers of the same handle do each of it once: the
/// outermost does.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) struct ResponseHandling {
    /// It gets a new value of the token.
    pub(super) rotates: bool,
    /// It gets signed.
    pub(super) signs: bool,
    /// A layer of any handle looks for [`Refused`](crate::rejection::Refused) in it.
    pub(super) watched: bool,
}

/// A DPoP proof that is used up.
#[derive(Clone)]
pub(super) struct UsedProof {
    /// Of the token that it came with.
    pub(super) key: Key,
    /// What was known of the token.
    pub(super) token: TokenInfo,
    /// The call by which Authlete was asked with it, if it was.
    pub(super) call: Sent,
}

/// How a token is introspected for a requirement that takes facts which its issue did not tell.
#[derive(Clone)]
pub(super) struct Introspection {
    pub(super) presented: Arc<Presented>,
    pub(super) freshness: Freshness,
    /// What the layer demands of the token.
    pub(super) conditions: Conditions,
}

impl Introspection {
    pub(super) fn resolve(&self, verifier: &Arc<Verifier>) -> Resolving {
        Box::pin(verifier.clone().resolve(self.presented.clone(), self.freshness))
    }
}

impl AuthContext {
    /// The context that a layer of this verifier left in a request.
    pub(super) fn of<'e>(extensions: &'e Extensions, verifier: &Arc<Verifier>) -> Option<&'e Self> {
        extensions.get::<Self>().filter(|it| Arc::ptr_eq(&it.verifier, verifier))
    }

    /// Takes away the context that another layer left, and tells what is done to the response: only what
    /// layers of this verifier do, and whether any of all looks at it.
    pub(super) fn take(extensions: &mut Extensions, verifier: &Arc<Verifier>) -> ResponseHandling {
        match extensions.remove::<Self>() {
            Some(context) if Arc::ptr_eq(&context.verifier, verifier) => context.response,
            Some(context) => ResponseHandling {
                watched: context.response.watched,
                ..ResponseHandling::default()
            },
            None => ResponseHandling::default(),
        }
    }

    /// Whether no layer left a context.
    #[inline]
    pub(super) fn is_absent(extensions: &Extensions) -> bool {
        extensions.is_empty() || extensions.get::<Self>().is_none()
    }

    /// Whether a layer outside wants to know whether the response refuses the request.
    pub(super) fn is_watched(extensions: &Extensions) -> bool {
        extensions.get::<Self>().is_some_and(|context| context.response.watched)
    }

    /// How the nearest layer refuses.
    pub(super) fn refuser(extensions: &Extensions) -> Option<&Refuser> {
        match extensions.get::<Self>() {
            Some(context) => Some(&context.verifier.refuser),
            None => {
                let refuser = extensions.get::<TokenInfo>().and_then(TokenInfo::refuser);
                #[cfg(feature = "test-util")]
                let refuser = refuser.or_else(|| TestRefuser::of(extensions));
                refuser
            }
        }
    }

    /// By which scheme the token was presented to the nearest layer.
    pub(super) fn scheme(extensions: &Extensions) -> Scheme {
        extensions.get::<Self>().map_or(Scheme::Bearer, |context| context.scheme)
    }

    /// Lets what is inside know that there is a layer, and no token.
    pub(super) fn insert_anonymous(extensions: &mut Extensions, verifier: &Arc<Verifier>) {
        let response = Self::take(extensions, verifier);
        extensions.remove::<TokenInfo>();
        extensions.remove::<Scopes>();
        extensions.remove::<Properties>();
        extensions.insert(Self {
            verifier: verifier.clone(),
            scheme: Scheme::Bearer,
            introspection: None,
            used_proof: None,
            response,
        });
    }
}
