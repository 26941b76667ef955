//! What a user does with a route from its creation to its end, in legs: each begins where all is at rest.

pub(crate) mod steps;

use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use crate::compare::{State, difference, state};
use crate::fake::{Fake, Operator, World};
use steps::{STEPS, Step, is_settled};

/// How long a cluster may take to be as it is to be, on a machine that has other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Nothing follows when nothing was written for so long: a pass that failed is tried again after a second, and a worker
/// that is to change is asked again after a second and a half.
pub(crate) const STILL: Duration = Duration::from_millis(1800);
/// An operator that has just started knows all when nothing was written for so long: it asks workers twice a second.
const KNOWN: Duration = Duration::from_millis(900);

/// One step, and what came of it when nothing went wrong.
pub(crate) struct Leg {
    pub(crate) step: &'static Step,
    /// The image of workers before it.
    pub(crate) image: &'static str,
    pub(crate) before: World,
    pub(crate) after: State,
    /// Writes that the operator asked for.
    pub(crate) writes: u64,
}

/// The journey without faults. It is made once.
pub(crate) async fn legs() -> &'static [Leg] {
    static LEGS: OnceCell<Vec<Leg>> = OnceCell::const_new();
    LEGS.get_or_init(|| async {
        let mut legs = Vec::new();
        let fake = Fake::new();
        let mut image = STEPS[0].image;
        let mut operator = fake.start(image);
        for step in STEPS {
            let (before, writes) = (fake.world(), fake.writes());
            operator = act(&fake, step, image, operator).await;
            assert!(
                fake.until(PATIENCE, |world| is_settled(world.objects())).await,
                "{}: {:#?}",
                step.name,
                state(fake.world().objects())
            );
            fake.rest(STILL).await;
            assert!(is_settled(fake.world().objects()), "{} was undone", step.name);
            assert_eq!(fake.broken(), [""; 0], "{}", step.name);
            legs.push(Leg {
                step,
                image,
                before,
                after: state(fake.world().objects()),
                writes: fake.writes() - writes,
            });
            image = step.image;
        }
        operator.kill().await;
        legs
    })
    .await
}

/// Does a step. Another image comes with another operator.
pub(crate) async fn act(
    fake: &std::sync::Arc<Fake>,
    step: &Step,
    image: &str,
    mut operator: Operator,
) -> Operator {
    if step.image != image {
        operator.kill().await;
        operator = fake.start(step.image);
    }
    (step.act)(fake.as_ref());
    operator
}

impl Leg {
    /// The cluster at the beginning of this leg, with an operator that knows all that is in it.
    pub(crate) async fn begin(&self) -> (std::sync::Arc<Fake>, Operator) {
        let fake = Fake::from(self.before.clone());
        let operator = fake.start(self.image);
        fake.rest(KNOWN).await;
        (fake, operator)
    }

    /// Waits for what came of it without faults; an error says what is different.
    pub(crate) async fn end(&self, fake: &Fake) -> Result<(), String> {
        self.end_as(fake, PATIENCE, |state| state).await
    }

    /// The same within a time, of what `view` leaves of the state.
    pub(crate) async fn end_as(
        &self,
        fake: &Fake,
        patience: Duration,
        view: fn(State) -> State,
    ) -> Result<(), String> {
        let wanted = view(self.after.clone());
        // Most looks are too early, and counting is cheap.
        let is_there =
            |world: &World| world.count() == wanted.len() && view(state(world.objects())) == wanted;
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let came = fake.until(left, is_there).await;
            // It may look so for a moment on the way.
            fake.rest(STILL).await;
            if !came || is_there(&fake.world()) {
                break;
            }
        }
        let difference = difference(&wanted, &view(state(fake.world().objects())));
        let broken = fake.broken().join("\n");
        match difference.is_empty() && broken.is_empty() {
            true => Ok(()),
            false => Err(format!("{difference}\n{broken}")),
        }
    }
}
