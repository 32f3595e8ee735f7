//! The requirement of a route, inside of a layer.

use std::sync::Arc;

use http::{Extensions, Request};

use super::{
    context::{AuthContext, Introspection},
    outcome::{Admission, Outcome},
    refuse::{refuse_inside, refuser},
};
use crate::{
    authorize::Require,
    credentials::RequestHead,
    rejection::Rejection,
    token::{Scopes, TokenInfo},
    verify::{Resolved, Resolving, Verifier},
};

/// Whether the token of a request meets a requirement, by what is known of it.
pub(crate) fn check(require: &Require, extensions: &Extensions) -> Result<(), Rejection> {
    let refuser = refuser(extensions)?;
    let token = extensions.get::<TokenInfo>().ok_or_else(Rejection::no_credentials)?;
    require.check_known(token, refuser.clock())
}

/// A request that does not meet a requirement by the answer that issued its token, which does not tell
/// all facts: introspection does.
pub(crate) struct RouteIntrospection {
    require: Require,
    verifier: Arc<Verifier>,
    introspection: Introspection,
}

impl RouteIntrospection {
    /// That of a request whose token was not introspected, once.
    pub(crate) fn take(extensions: &mut Extensions, require: &Require) -> Option<Self> {
        let context = extensions.get_mut::<AuthContext>()?;
        let introspection = context.introspection.take()?;
        let verifier = context.verifier.clone();
        Some(Self { require: require.clone(), verifier, introspection })
    }

    pub(crate) fn resolve(&self) -> Resolving {
        self.introspection.resolve(&self.verifier)
    }

    /// Decides by what the introspection tells, and puts it into the request.
    pub(crate) fn decide<B, ResB: Default + 'static>(
        &self,
        request: &mut Request<B>,
        resolved: Resolved,
    ) -> Outcome<ResB> {
        let conditions = &self.introspection.conditions;
        let checked = resolved.verdict.and_then(|token| {
            conditions.authorize(&token, &self.verifier)?;
            let alone = request.extensions().get::<Scopes>().is_none();
            token.insert_into(request.extensions_mut(), alone);
            check(&self.require, request.extensions())
        });
        match checked {
            Ok(()) => Outcome::Admit(Admission { admitted: None, then: None }),
            Err(rejection) => {
                let head = RequestHead::of(request);
                Outcome::Refuse(refuse_inside(head, request.extensions(), &rejection))
            }
        }
    }
}
