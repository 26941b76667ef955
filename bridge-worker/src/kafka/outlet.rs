use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use millrace_librdkafka::Topic;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::callbacks::Context;
use super::producer::Native;

/// A librdkafka producer, and the topics that records have gone to through it.
pub(super) struct Outlet {
    native: Arc<Native>,
    topics: HashMap<String, Topic<Context>, TopicHashes>,
}

impl Outlet {
    pub(super) fn new(native: Arc<Native>) -> Self {
        Self {
            native,
            topics: HashMap::default(),
        }
    }

    pub(super) fn native(&self) -> &Arc<Native> {
        &self.native
    }

    pub(super) fn topic(&self, name: &str) -> Option<&Topic<Context>> {
        self.topics.get(name)
    }

    /// Takes a topic, if it is one of this producer's.
    pub(super) fn add(&mut self, native: &Arc<Native>, name: &str, topic: Topic<Context>) {
        if Arc::ptr_eq(native, &self.native) {
            self.topics.insert(name.to_owned(), topic);
        }
    }

    pub(super) fn forget_topics(&mut self) {
        self.topics.clear();
    }
}

/// Hashes names of topics: every record pays for a look at [`Outlet::topic`].
#[derive(Clone, Debug)]
struct TopicHashes {
    seed: u64,
}

impl Default for TopicHashes {
    fn default() -> Self {
        Self {
            seed: RandomState::new().build_hasher().finish(),
        }
    }
}

impl BuildHasher for TopicHashes {
    type Hasher = TopicHasher;

    fn build_hasher(&self) -> TopicHasher {
        TopicHasher(self.seed)
    }
}

struct TopicHasher(u64);

impl Hasher for TopicHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// The end of a text, which nothing follows here.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
