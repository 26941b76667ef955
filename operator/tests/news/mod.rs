//! Waiting for a state of which a channel tells that it has changed.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

/// Waits until `is`, which is asked after every change; false if that does not come in time. Changes come in swarms, and
/// a look costs, so there is a pause between two.
pub(crate) async fn until(
    mut news: watch::Receiver<()>,
    patience: Duration,
    pause: Duration,
    is: impl Fn() -> bool,
) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        news.borrow_and_update();
        if is() {
            return true;
        }
        // What has changed already is told even after the deadline.
        let told = timeout_at(deadline, news.changed()).await;
        if told.is_err() || Instant::now() >= deadline {
            return false;
        }
        sleep(pause).await;
    }
}
