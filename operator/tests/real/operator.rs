use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use millrace_operator::Settings;
use millrace_operator::cluster::Cluster as Written;
use millrace_operator::cluster::watch::Scope;
use millrace_operator::controllers::Controllers;
use millrace_operator::flow::Sight;
use millrace_operator::metrics::Metrics;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower::{Layer, Service};

use super::{Cluster, User};

/// Never.
const NEVER: u64 = u64::MAX;

/// A running operator, in this process. It dies when this is dropped, or after a write.
pub(crate) struct Operator {
    reins: Reins,
    task: JoinHandle<()>,
    pub(crate) metrics: Metrics,
}

impl Operator {
    /// Starts one.
    pub(crate) fn start(cluster: &Cluster, scope: Scope, settings: Settings) -> Self {
        let reins = Reins::default();
        let builder = ClientBuilder::try_from(cluster.config(User::Operator)).expect("a client");
        let client = builder.with_layer(&reins).build();
        let metrics = Metrics::default();
        let task = tokio::spawn(Controllers::run(
            Written::new(client, metrics.clone()),
            scope,
            Sight::default(),
            settings,
            metrics.clone(),
            || {},
        ));
        Self { reins, task, metrics }
    }

    /// What it has asked to be written so far.
    pub(crate) fn writes(&self) -> u64 {
        *self.reins.writes.borrow()
    }

    /// Has it die once it has written so much more, before it hears of the last.
    pub(crate) fn die_after(&self, writes: u64) {
        self.reins.last.store(self.writes() + writes, Ordering::Relaxed);
    }

    /// Waits until nothing has been written for `still`. False: it died over a write.
    pub(crate) async fn rest(&self, still: Duration) -> bool {
        let mut writes = self.reins.writes.subscribe();
        loop {
            if *writes.borrow_and_update() >= self.reins.last.load(Ordering::Relaxed) {
                return false;
            }
            if tokio::time::timeout(still, writes.changed()).await.is_err() {
                return true;
            }
        }
    }

    /// Ends it as SIGKILL does.
    pub(crate) async fn kill(mut self) {
        self.reins.last.store(0, Ordering::Relaxed);
        self.task.abort();
        let ended = (&mut self.task).await;
        assert!(
            ended.is_err_and(|error| error.is_cancelled()),
            "the operator ended by itself"
        );
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.reins.last.store(0, Ordering::Relaxed);
        self.task.abort();
    }
}

/// Counts the writes of a client, and lets none out after the last.
#[derive(Clone)]
struct Reins {
    writes: watch::Sender<u64>,
    last: Arc<AtomicU64>,
}

impl Default for Reins {
    fn default() -> Self {
        Self {
            writes: watch::Sender::new(0),
            last: Arc::new(AtomicU64::new(NEVER)),
        }
    }
}

impl<S> Layer<S> for Reins {
    type Service = Reined<S>;

    fn layer(&self, inner: S) -> Reined<S> {
        Reined {
            reins: self.clone(),
            inner,
        }
    }
}

#[derive(Clone)]
struct Reined<S> {
    reins: Reins,
    inner: S,
}

impl<S, B> Service<Request<Body>> for Reined<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let last = self.reins.last.load(Ordering::Relaxed);
        let is_write = request.method() != Method::GET;
        if *self.reins.writes.borrow() >= last {
            // A process that is gone asks nothing.
            return Box::pin(std::future::pending());
        }
        let mut number = 0;
        if is_write {
            self.reins.writes.send_modify(|writes| {
                *writes += 1;
                number = *writes;
            });
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if is_write && number >= last {
                return std::future::pending().await;
            }
            answer
        })
    }
}
