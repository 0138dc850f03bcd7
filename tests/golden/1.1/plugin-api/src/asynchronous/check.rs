//! One check, from first poll to end: the author's code runs behind the panic barrier and as part of its call each time
//! it is polled, and when it is dropped.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context as TaskContext, Poll},
};

use tokio::task::unconstrained;

use super::AsyncProbe;
use crate::{Context, Failure, Report, abi::AbiCall, export, logging, panic_barrier};

/// Runs one check of `probe` until it ends, its deadline passes, or `cancelled` resolves.
pub(crate) async fn run<P: AsyncProbe>(
    probe: &mut P,
    call: &AbiCall,
    cancelled: impl Future + Send,
) -> Result<Report, Failure> {
    let context = Context::new(call);
    let mut check = GuardedFuture::begin(call, || Box::pin(probe.check(&context)))?;
    let waited = wait(&mut check, &context, cancelled).await;
    // A stopped check still exists; its resources are released before the check is over.
    check.end()?;
    waited
}

/// Waits until a check ends, its deadline passes, or the host cancels it, whichever comes first.
async fn wait(
    check: impl Future<Output = Result<Report, Failure>> + Send,
    context: &Context<'_>,
    cancelled: impl Future + Send,
) -> Result<Report, Failure> {
    let patience = context.remaining();
    // The runtime stops a check with endless input only by its cooperative budget. The deadline and the cancellation
    // must not draw on that budget, which would be used up at every turn of theirs.
    let mut check = pin!(check);
    let mut cancelled = pin!(unconstrained(cancelled));
    let mut late = pin!(unconstrained(tokio::time::sleep(patience)));
    poll_fn(|task| {
        if let Poll::Ready(found) = check.as_mut().poll(task) {
            return Poll::Ready(found);
        }
        if cancelled.as_mut().poll(task).is_ready() {
            return Poll::Ready(Err(Failure::new(
                "the check was cancelled: the host no longer waited for it",
            )));
        }
        late.as_mut().poll(task).map(|()| {
            let given = patience.as_secs_f64();
            Err(Failure::timeout(format!(
                "the check had not ended at its deadline, after {given:.1} s"
            )))
        })
    })
    .await
}

/// An author's future behind the panic barrier.
struct GuardedFuture<'a> {
    call: &'a AbiCall,
    future: Option<Check<'a>>,
}

type Check<'a> = Pin<Box<dyn Future<Output = Result<Report, Failure>> + Send + 'a>>;

impl<'a> GuardedFuture<'a> {
    fn begin(call: &'a AbiCall, check: impl FnOnce() -> Check<'a>) -> Result<Self, Failure> {
        let future = logging::within(call, || panic_barrier::catch(|| Ok(check())))?;
        Ok(Self {
            call,
            future: Some(future),
        })
    }

    /// Drops the rest of the future.
    fn end(&mut self) -> Result<(), Failure> {
        let future = self.future.take();
        logging::within(self.call, || {
            panic_barrier::catch(|| {
                drop(future);
                Ok(())
            })
        })
    }
}

impl Future for GuardedFuture<'_> {
    type Output = Result<Report, Failure>;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(future) = &mut this.future else {
            return Poll::Pending;
        };
        let polled = logging::within(this.call, || {
            panic_barrier::catch(|| match future.as_mut().poll(task) {
                Poll::Ready(found) => found.map(Some),
                Poll::Pending => Ok(None),
            })
        });
        polled.transpose().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for GuardedFuture<'_> {
    fn drop(&mut self) {
        if let Err(failure) = self.end() {
            export::log_outside_a_call(failure.message());
        }
    }
}
