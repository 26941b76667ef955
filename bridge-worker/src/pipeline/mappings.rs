use millrace_mapping::{Decision, MapError, Mapper, Message, Record};

/// How the messages of a lane become records: the mapping of the route, and those of filters it no longer has.
#[derive(Debug)]
pub(crate) struct Mappings {
    current: Mapper,
    retired: Vec<Mapper>,
    /// Messages that only a retired filter matched.
    late: u64,
}

impl From<Mapper> for Mappings {
    fn from(current: Mapper) -> Self {
        Self::new(current, Vec::new())
    }
}

impl Mappings {
    pub(crate) fn new(current: Mapper, retired: Vec<Mapper>) -> Self {
        Self {
            current,
            retired,
            late: 0,
        }
    }

    /// Takes over other mappings; what came late so far stays counted.
    pub(crate) fn replace(&mut self, other: Self) {
        let late = self.late;
        *self = Self { late, ..other };
    }

    /// Messages so far that only a filter matched which the route no longer has.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    /// Maps a message as [`Mapper::map`] does, by the first filter that matches.
    pub(crate) fn map(&mut self, message: &Message<'_>, record: &mut Record) -> Result<Decision, MapError> {
        match self.current.map(message, record) {
            Err(MapError::NoFilter) if !self.retired.is_empty() => self.map_late(message, record),
            outcome => outcome,
        }
    }

    fn map_late(&mut self, message: &Message<'_>, record: &mut Record) -> Result<Decision, MapError> {
        for mapper in &mut self.retired {
            match mapper.map(message, record) {
                Err(MapError::NoFilter) => {}
                outcome => {
                    self.late += 1;
                    return outcome;
                }
            }
        }
        Err(MapError::NoFilter)
    }
}
