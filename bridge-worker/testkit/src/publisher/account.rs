//! What was sent, how often, and what was acknowledged.

use crate::bits::Bits;
use crate::stamp::MessageId;

/// The messages of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyAccount {
    /// By sequence: how often it was sent as something the broker may take for a new message. Stops at 255.
    attempts: Vec<u8>,
    acknowledged: Bits,
    /// Sent again as a new message because the broker had nobody to give it to: may arrive after its successors.
    refused: Bits,
}

/// The messages of one connection.
#[derive(Clone, Debug)]
pub(super) struct Account {
    keys: Vec<u32>,
    accounts: Vec<KeyAccount>,
}

impl Account {
    pub(super) fn new(keys: Vec<u32>) -> Account {
        let accounts = vec![KeyAccount::default(); keys.len()];
        Account { keys, accounts }
    }

    /// The keys of the connection; elsewhere in here a key is its place in this list.
    pub(super) fn keys(&self) -> &[u32] {
        &self.keys
    }

    /// One more attempt; true when it is the first.
    pub(super) fn attempt(&mut self, key: usize, sequence: u32) -> bool {
        let attempts = &mut self.accounts[key].attempts;
        let sequence = sequence as usize;
        if attempts.len() <= sequence {
            attempts.resize(sequence + 1, 0);
        }
        attempts[sequence] = attempts[sequence].saturating_add(1);
        attempts[sequence] == 1
    }

    pub(super) fn acknowledge(&mut self, key: usize, sequence: u32) {
        self.accounts[key].acknowledged.insert(sequence);
    }

    pub(super) fn refuse(&mut self, key: usize, sequence: u32) {
        self.accounts[key].refused.insert(sequence);
    }
}

/// What a [`crate::Publisher`] did.
///
/// ```
/// use millrace_testkit::{MessageId, Report};
///
/// let id = |sequence| MessageId { run: 1, key: 0, sequence };
/// let report = Report::of(1, &[(id(0), 1, true), (id(1), 2, false)]);
/// assert_eq!((report.sent(), report.acknowledged(), report.repeats()), (2, 1, 1));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Report {
    run: u32,
    /// By key.
    keys: Vec<KeyAccount>,
}

impl Report {
    pub(super) fn new(run: u32, accounts: Vec<Account>) -> Report {
        let mut report = Report {
            run,
            keys: Vec::new(),
        };
        for account in accounts {
            for (key, own) in account.keys.into_iter().zip(account.accounts) {
                *report.key_mut(key) = own;
            }
        }
        report
    }

    /// A report made by hand: messages of `run`, how often each was sent, and whether it was acknowledged.
    pub fn of(run: u32, messages: &[(MessageId, u8, bool)]) -> Report {
        let mut report = Report {
            run,
            keys: Vec::new(),
        };
        for (id, attempts, acknowledged) in messages {
            let key = report.key_mut(id.key);
            let sequence = id.sequence as usize;
            if key.attempts.len() <= sequence {
                key.attempts.resize(sequence + 1, 0);
            }
            key.attempts[sequence] = *attempts;
            if *acknowledged {
                key.acknowledged.insert(id.sequence);
            }
        }
        report
    }

    fn key_mut(&mut self, key: u32) -> &mut KeyAccount {
        if self.keys.len() <= key as usize {
            self.keys.resize_with(key as usize + 1, KeyAccount::default);
        }
        &mut self.keys[key as usize]
    }

    /// The run its messages belong to.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Messages sent at least once.
    pub fn sent(&self) -> u64 {
        self.keys
            .iter()
            .map(|key| key.attempts.iter().filter(|&&n| n > 0).count() as u64)
            .sum()
    }

    /// Messages acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.keys.iter().map(|key| key.acknowledged.len()).sum()
    }

    /// Times a message was sent again in a way that lets the broker hand it on twice: QoS 1 after a lost connection,
    /// QoS 2 after a lost session, any QoS when the broker had refused it.
    pub fn repeats(&self) -> u64 {
        let repeats = |key: &KeyAccount| {
            key.attempts
                .iter()
                .map(|&n| u64::from(n.saturating_sub(1)))
                .sum::<u64>()
        };
        self.keys.iter().map(repeats).sum()
    }

    /// How often a message was sent; 0 when it never was, or is not of this run.
    pub fn attempts(&self, id: MessageId) -> u8 {
        let attempts = || self.key(id)?.attempts.get(id.sequence as usize).copied();
        attempts().unwrap_or(0)
    }

    /// Whether a message was acknowledged.
    pub fn is_acknowledged(&self, id: MessageId) -> bool {
        self.key(id)
            .is_some_and(|key| key.acknowledged.contains(id.sequence))
    }

    /// Whether a message was sent anew after the broker had refused it, and so may come after its successors.
    pub fn was_refused(&self, id: MessageId) -> bool {
        self.key(id).is_some_and(|key| key.refused.contains(id.sequence))
    }

    /// The messages acknowledged, by key and sequence.
    pub fn acknowledged_ids(&self) -> impl Iterator<Item = MessageId> + '_ {
        (0_u32..).zip(&self.keys).flat_map(move |(key, account)| {
            account.acknowledged.iter().map(move |sequence| MessageId {
                run: self.run,
                key,
                sequence,
            })
        })
    }

    fn key(&self, id: MessageId) -> Option<&KeyAccount> {
        (id.run == self.run)
            .then(|| self.keys.get(id.key as usize))
            .flatten()
    }
}
