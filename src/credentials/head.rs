//! The head of a request.

use std::fmt;

use http::{HeaderMap, Method, Request, Uri, Version};

/// The part of a request that can hold credentials. `Debug` shows none of them.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct RequestHead<'r> {
    /// The method.
    pub method: &'r Method,
    /// The URI.
    pub uri: &'r Uri,
    /// The version of HTTP.
    pub version: Version,
    /// The headers.
    pub headers: &'r HeaderMap,
}

impl<'r> RequestHead<'r> {
    pub(crate) fn of<B>(request: &'r Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
        }
    }
}

impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, path) = (self.method, self.uri.path());
        f.debug_struct("RequestHead")
            .field("method", method)
            .field("path", &path)
            .finish_non_exhaustive()
    }
}
