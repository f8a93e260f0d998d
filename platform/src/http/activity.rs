//! Whether a connection is of use: who asks for nothing, or never reads what was answered, must not keep it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use tokio::time::{Instant, sleep_until};

/// The requests of one connection.
pub(super) struct Activity {
    under_way: AtomicUsize,
    /// When it is to be ended if nothing is asked until then.
    until: Mutex<Instant>,
    within: Duration,
}

impl Activity {
    /// The first request must come within `first`, each other one within `within` of the one before.
    ///
    /// Requests count, not bytes: an HTTP/2 client may answer pings as long as it likes, and hold back what it is answered
    /// by its window. An HTTP/1.1 client that does not read is asked for no more requests when its answers fill the buffers.
    pub fn new(first: Duration, within: Duration) -> Arc<Self> {
        Arc::new(Self { under_way: AtomicUsize::new(0), until: Mutex::new(Instant::now() + first), within })
    }

    /// Returns when nothing has been asked for too long and nothing is under way, whose own time is bounded elsewhere.
    pub async fn quiet(&self) {
        loop {
            let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if until > now {
                sleep_until(until).await;
            } else if self.under_way.load(Relaxed) == 0 {
                return;
            } else {
                sleep_until(now + self.within).await;
            }
        }
    }

    fn goes_on(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + self.within;
    }
}

/// A request until its answer begins, or it is given up.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn of(activity: &Arc<Activity>) -> Self {
        activity.under_way.fetch_add(1, Relaxed);
        activity.goes_on();
        Self(Arc::clone(activity))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.goes_on();
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

/// A connection's service that notes what is asked.
pub(super) fn noted<S, B>(
    service: S,
    activity: Arc<Activity>,
) -> impl Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send + 'static> + Send + 'static
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body,
{
    service_fn(move |request| {
        let under_way = UnderWay::of(&activity);
        let answer = service.call(request);
        async move {
            let answer = answer.await;
            drop(under_way);
            answer
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(20);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_quiet_once_nothing_is_asked_or_under_way() {
        let activity = Activity::new(WITHIN / 2, WITHIN);
        let started = Instant::now();
        activity.quiet().await;
        assert_eq!(started.elapsed(), WITHIN / 2);

        let activity = Activity::new(WITHIN / 2, WITHIN);
        let (first, second) = (UnderWay::of(&activity), UnderWay::of(&activity));
        drop(first);
        assert!(tokio::time::timeout(WITHIN * 10, activity.quiet()).await.is_err(), "one is under way");
        drop(second);
        let ended = Instant::now();
        activity.quiet().await;
        assert_eq!(ended.elapsed(), WITHIN);
    }
}
