//! What a lane takes over between two messages.

use millrace_contract::OnError;

use super::super::mappings::Mappings;
use super::Lane;
use crate::kafka::Sink;

impl<S: Sink> Lane<S> {
    /// From the next message on, maps and deals with errors like this.
    pub(crate) fn take_over(&mut self, mappings: Mappings, on_error: &OnError) {
        self.mappings.replace(mappings);
        self.config.action = on_error.action;
        self.config
            .dead_letter_topic
            .clone_from(&on_error.dead_letter_topic);
        self.config.skip.clone_from(&on_error.skip);
    }

    /// How many bytes may be in the producer for this lane, overhead included.
    pub(crate) fn set_max_buffered(&mut self, bytes: usize) {
        self.config.max_buffered = bytes;
    }

    /// Takes messages again after one has stopped the lane. Call without a connection: the broker sends it again.
    pub(crate) fn go_on(&mut self) {
        self.stop = None;
    }
}
