//! What is decided on a request.

use http::Response;

use super::returned::Admitted;
use crate::{
    lifecycle::{PendingExtension, PendingRotation},
    rejection::Refused,
    verify::Resolving,
};

/// What becomes of a request.
pub(crate) enum Outcome<ResB> {
    /// It goes on to the inner service.
    Admit(Admission<ResB>),
    /// It is decided again, on the verdict that this brings.
    Wait(Resolving),
    Refuse(Response<ResB>),
}

/// What is to be done to the response of a request that goes on to the inner service.
pub(crate) struct Admission<ResB> {
    /// Renders what a handler refuses; `None` where the layer outside does.
    pub(crate) admitted: Option<Admitted>,
    pub(crate) then: Option<Box<OnResponse<ResB>>>,
}

/// What is done when the head of the response is there.
pub(crate) struct OnResponse<ResB> {
    pub(super) rotation: Option<PendingRotation>,
    pub(super) extension: Option<Box<PendingExtension>>,
    pub(super) finish: Option<Finish<ResB>>,
}

/// The last change of a response.
pub(crate) type Finish<ResB> = Box<dyn FnOnce(Response<ResB>) -> Response<ResB> + Send>;

impl<ResB> OnResponse<ResB> {
    /// Starts the extension, which nobody waits for. What is left: to rotate the token, then to finish
    /// the response.
    pub(crate) fn start(
        self,
        response: &Response<ResB>,
    ) -> (Option<PendingRotation>, Option<Finish<ResB>>) {
        let refused = Refused::marks(response);
        if let Some(extension) = self.extension.filter(|_| !refused) {
            extension.begin();
        }
        let succeeded = !refused && response.status().as_u16() < 400;
        (self.rotation.filter(|_| succeeded), self.finish)
    }
}
