//! What users build: the layer, its settings and its handle; and the services that it makes.

mod auth;
mod builder;
mod future;
mod handle;
mod require;
mod service;

pub(crate) use self::handle::finish;
pub use self::{
    auth::AuthLayer, builder::AuthLayerBuilder, future::AuthFuture, handle::AuthHandle,
    require::RequireService, service::AuthService,
};
