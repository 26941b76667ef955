/// Pieces that mean something to one of the targets.
const WORDS: [&[u8]; 48] = [
    b"{",
    b"}",
    b"{{",
    b"}}",
    b"(",
    b")",
    b"[",
    b"]",
    b"/",
    b"+",
    b"#",
    b"$",
    b"*",
    b".",
    b"'",
    b"\"",
    b"'''",
    b"\\",
    b"payload",
    b"message",
    b".topic",
    b".map(x, ",
    b".all(x, ",
    b"merge(",
    b"without(",
    b"get(",
    b"has(",
    b"size(",
    b" == ",
    b" && ",
    b" ? ",
    b" : ",
    b" + ",
    b" % ",
    b"-",
    b"1",
    b"0.5",
    b"9007199254740993",
    b"null",
    b"true",
    b"\n",
    b"\r\n",
    b"  ",
    b"- ",
    b": ",
    b"\xff",
    b"\0",
    b"\xc3\xa9",
];
/// Longest input, in bytes.
const MAX_LENGTH: usize = 16 * 1024;

/// Makes inputs from other inputs.
pub(crate) struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(corpus: &'a [Vec<u8>], seed: u64) -> Self {
        Self {
            corpus,
            state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    /// A number below `end`, by xorshift64*.
    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let number = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        number as usize % end.max(1)
    }

    /// Some part of `length` bytes.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let count = self.below((length - start).min(64) + 1);
        start..start + count
    }

    /// Puts the next input into `out`.
    pub(crate) fn next(&mut self, out: &mut Vec<u8>) {
        let corpus = self.corpus;
        out.clear();
        out.extend_from_slice(&corpus[self.below(corpus.len())]);
        for _ in 0..=self.below(6) {
            let at = self.below(out.len() + 1);
            match self.below(8) {
                0 if at < out.len() => out[at] ^= 1 << self.below(8),
                1 if at < out.len() => out[at] = self.below(256) as u8,
                2 => drop(out.drain(self.range(out.len()))),
                3 => {
                    let copied = out[self.range(out.len())].to_vec();
                    out.splice(at..at, copied);
                }
                4 => {
                    let other = &corpus[self.below(corpus.len())];
                    let part = self.range(other.len());
                    out.splice(at..at, other[part].iter().copied());
                }
                5 => {
                    // Deep nesting is what parsers fear.
                    let word = WORDS[self.below(WORDS.len())];
                    let count = self.below(200);
                    out.splice(at..at, word.repeat(count));
                }
                _ => {
                    let word = WORDS[self.below(WORDS.len())];
                    let replaced = if self.below(2) == 0 {
                        at..at
                    } else {
                        at..(at + word.len()).min(out.len())
                    };
                    out.splice(replaced, word.iter().copied());
                }
            }
        }
        out.truncate(MAX_LENGTH);
    }
}
