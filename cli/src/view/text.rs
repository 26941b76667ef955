//! Text as a terminal shows it: styled pieces whose width is known, and figures in the form people read.

use std::time::Duration;

use crossterm::style::{Attribute, Color, ContentStyle, Stylize};

/// One line of styled pieces.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Line(Vec<(ContentStyle, String)>);

impl Line {
    /// An empty line.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A line without style.
    pub(crate) fn plain(text: impl AsRef<str>) -> Self {
        Self::new().with(text, Style::Plain)
    }

    /// A line in one style.
    pub(crate) fn styled(text: impl AsRef<str>, style: Style) -> Self {
        Self::new().with(text, style)
    }

    /// The line, followed by `text`. Control characters become spaces: parts of what is shown come from devices,
    /// and a topic must not be able to drive the terminal.
    pub(crate) fn with(mut self, text: impl AsRef<str>, style: Style) -> Self {
        let text = text
            .as_ref()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        self.0.push((style.content(), text));
        self
    }

    /// How many columns it takes.
    pub(crate) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// The line cut to `width` columns; a cut one ends in `…`.
    pub(crate) fn cut(self, width: usize) -> Self {
        if self.width() <= width {
            return self;
        }
        let mut left = width.saturating_sub(1);
        let mut kept = Vec::new();
        for (style, text) in self.0 {
            let piece: String = text.chars().take(left).collect();
            left -= piece.chars().count();
            kept.push((style, piece));
        }
        kept.push((
            ContentStyle::new(),
            if width > 0 { "…".into() } else { String::new() },
        ));
        Self(kept)
    }

    /// The text with escape sequences for its styles, or without them.
    pub(crate) fn render(&self, colour: bool) -> String {
        let piece = |(style, text): &(ContentStyle, String)| {
            if colour && *style != ContentStyle::new() {
                style.apply(text).to_string()
            } else {
                text.clone()
            }
        };
        self.0.iter().map(piece).collect()
    }
}

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Not at all.
    Plain,
    /// A heading.
    Bold,
    /// Less important than the rest.
    Dim,
    /// As it should be.
    Good,
    /// On its way, or worth a look.
    Warn,
    /// Wrong.
    Bad,
}

impl Style {
    fn content(self) -> ContentStyle {
        let style = ContentStyle::new();
        match self {
            Self::Plain => style,
            Self::Bold => style.attribute(Attribute::Bold),
            Self::Dim => style.attribute(Attribute::Dim),
            Self::Good => style.with(Color::Green),
            Self::Warn => style.with(Color::Yellow),
            Self::Bad => style.with(Color::Red),
        }
    }
}

/// Breaks text at spaces into lines of at most `width` columns. A longer word is cut.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + length <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.extend(
                word.chars()
                    .collect::<Vec<_>>()
                    .chunks(width)
                    .map(|piece| piece.iter().collect()),
            ),
        }
    }
    lines
}

/// `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1,234,567`, and from ten million on `12.3M`: for narrow columns.
pub(crate) fn short_count(n: u64) -> String {
    if n < 10_000_000 {
        count(n)
    } else {
        format!("{:.1}M", n as f64 / 1e6)
    }
}

/// `1 message`, `1,234 messages`.
pub(crate) fn counted(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A duration in at most six columns: `0.4 ms`, `12 ms`, `1.5 s`, `90 s`, `12 min`, `30 h`.
pub(crate) fn duration(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    match ms {
        ..0.05 => "0 ms".to_owned(),
        ..9.95 => format!("{ms:.1} ms"),
        ..999.5 => format!("{ms:.0} ms"),
        ..9_950.0 => format!("{:.1} s", ms / 1e3),
        ..600_000.0 => format!("{:.0} s", ms / 1e3),
        ..5_970_000.0 => format!("{:.0} min", ms / 6e4),
        _ => format!("{:.0} h", ms / 3.6e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped_and_fit_their_columns() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(short_count(9_999_999), "9,999,999");
        assert_eq!(short_count(12_345_678), "12.3M");
        assert_eq!(counted(1, "message"), "1 message");
    }

    #[test]
    fn durations_have_two_digits_and_a_unit() {
        let shown = |us| duration(Duration::from_micros(us));
        let expected = ["0 ms", "0.4 ms", "10 ms", "1.5 s", "90 s", "12 min", "2 h"];
        let given = [0, 400, 9_960, 1_500_000, 90_000_000, 720_000_000, 5_990_000_000];
        assert_eq!(given.map(shown), expected);
    }

    #[test]
    fn a_cut_line_is_exactly_as_wide_as_asked() {
        let line = Line::plain("telemetry").with(" running", Style::Good);
        for width in 0..20 {
            let cut = line.clone().cut(width);
            assert_eq!(cut.width(), width.min(17), "{cut:?}");
            assert_eq!(cut.render(false).contains('…'), (1..17).contains(&width));
        }
    }

    #[test]
    fn devices_cannot_send_escape_sequences_to_the_terminal() {
        let line = Line::plain("topic plants/\u{1b}[2J\u{7}x");
        assert_eq!(line.render(false), "topic plants/ [2J x");
        assert!(!line.render(true).contains("\u{1b}[2J"));
    }

    #[test]
    fn wrapping_keeps_every_word_and_the_width() {
        let text = "the broker refused the connection: a-very-long-word-that-does-not-fit";
        let lines = wrap(text, 20);
        assert!(lines.iter().all(|line| line.chars().count() <= 20), "{lines:?}");
        assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
    }
}
