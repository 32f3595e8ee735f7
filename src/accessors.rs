//! Access to the service inside a service.

/// `get_ref`, `get_mut` and `into_inner` of a service with the field `inner`, as tower-http's have them.
macro_rules! inner_service_accessors {
    () => {
        /// The service inside.
        pub fn get_ref(&self) -> &S {
            &self.inner
        }

        /// The service inside. What is done to it, such as polling it ready, affects requests.
        pub fn get_mut(&mut self) -> &mut S {
            &mut self.inner
        }

        /// The service inside, alone.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}

pub(crate) use inner_service_accessors;
