//! What a web config promises.
