//! Scenarios by behaviour: the real host, real libraries, real servers.
