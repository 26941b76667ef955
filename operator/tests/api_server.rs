//! The operator against a real API server, etcd and the controllers of Kubernetes: what it refuses, what a killed
//! operator leaves, what users can do to it, and what many routes cost.
//!
//! The programs are those of the cluster that `e2e/kind` builds: `e2e/kind/build binaries`.

mod compare;
mod journey {
    pub(crate) mod steps;
}
mod kubelet;
mod news;
mod objects;
mod random;
mod real;
mod scenes {
    mod crash;
    mod invalid;
    mod kubectl;
    mod many_routes;
    mod sequences;

    /// Each scene that measures something has the machine for itself.
    static STAGE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// Whether the long form is asked for.
    fn is_long() -> bool {
        std::env::var("MILLRACE_CAMPAIGN").is_ok_and(|form| form == "long")
    }
}
