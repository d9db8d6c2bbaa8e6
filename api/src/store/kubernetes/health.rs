//! Whether the API server answers.
//!
//! Every watch of a process notices at once when the API server goes away. They tell it here, so that it is logged once and not by
//! each; one task then asks for the server's version until it answers, and all watches begin again together. That is less load
//! on a server that just came up than every watch trying for itself, and sooner than a backoff that has grown.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::connect::one_line;

/// First pause between two questions whether the server is back; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// No answer within this is no answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What all watches of a store know about their API server.
#[derive(Clone)]
pub(super) struct Health {
    client: Client,
    answers: Arc<watch::Sender<bool>>,
}

impl Health {
    /// Believed to answer until somebody says otherwise.
    pub(super) fn new(client: Client) -> Self {
        Self { client, answers: Arc::new(watch::Sender::new(true)) }
    }

    /// A watch lost its connection; returns when the server answers again.
    pub(super) async fn lost(&self, cause: &kube::Error) {
        let mut answers = self.answers.subscribe();
        let first = self.answers.send_if_modified(|answers| std::mem::replace(answers, false));
        if first {
            warn!(
                cause = one_line(cause),
                "the API server does not answer; what was last heard from it stays in force"
            );
            tokio::spawn(self.clone().ask());
        }
        // The sender lives in `self`, so this cannot fail; if it could, going on would be right.
        let _ = answers.wait_for(|answers| *answers).await;
    }

    /// Asks until there is an answer. A refusal is one too.
    async fn ask(self) {
        let since = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            sleep(spread(pause)).await;
            match timeout(ANSWER, self.client.apiserver_version()).await {
                Ok(Ok(_) | Err(kube::Error::Api(_))) => break,
                Ok(Err(_)) | Err(_) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
        info!(seconds = since.elapsed().as_secs(), "the API server answers again");
        self.answers.send_replace(true);
    }
}

/// The pause or up to twice as long: the nodes of a cluster lose their API server together, and should not come back together.
pub(super) fn spread(pause: Duration) -> Duration {
    // `RandomState` is seeded differently each time, which is all the randomness that this needs.
    let fraction = (RandomState::new().hash_one(()) >> 32) as u32;
    pause + pause.mul_f64(f64::from(fraction) / f64::from(u32::MAX))
}
