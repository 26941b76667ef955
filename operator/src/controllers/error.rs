use crate::cluster::ClusterError;

/// Why a pass failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// While writing what is to be.
    #[error("apply: {0}")]
    Apply(#[source] ClusterError),
    /// While removing what is no longer wanted.
    #[error("prune: {0}")]
    Prune(#[source] ClusterError),
    /// While writing the status.
    #[error("status: {0}")]
    Status(#[source] ClusterError),
    /// While adding or removing the finalizer.
    #[error("finalizer: {0}")]
    Finalizer(#[source] ClusterError),
    /// While writing the lane record or a pod's part of it.
    #[error("lanes: {0}")]
    Lanes(#[source] ClusterError),
}

impl Error {
    /// What the cluster said.
    pub fn cause(&self) -> &ClusterError {
        match self {
            Self::Apply(error)
            | Self::Prune(error)
            | Self::Status(error)
            | Self::Finalizer(error)
            | Self::Lanes(error) => error,
        }
    }
}
