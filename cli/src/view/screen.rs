//! Draws frames in place at the end of the terminal's text, without flicker, and lets log lines pass above.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossterm::cursor::{Hide, MoveToColumn, MoveUp, Show};
use crossterm::queue;
use crossterm::style::Print;
use crossterm::terminal::{self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate};
use tracing_subscriber::fmt::MakeWriter;

use super::table::Size;
use super::text::Line;

/// The size of a terminal that does not tell it.
const USUAL: Size = Size {
    width: 80,
    height: 24,
};

/// The terminal's size now.
pub(crate) fn size() -> Size {
    match terminal::size() {
        Ok((width, height)) if width > 0 && height > 0 => Size {
            width: usize::from(width),
            height: usize::from(height),
        },
        _ => USUAL,
    }
}

/// A frame that is drawn again and again in the same place. Clones draw on the same terminal.
#[derive(Clone)]
pub(crate) struct Screen(Arc<Mutex<Canvas>>);

struct Canvas {
    out: Box<dyn Write + Send>,
    colour: bool,
    /// The frame as it stands on the terminal, and the size the terminal had then.
    drawn: Vec<String>,
    size: Option<Size>,
}

impl Screen {
    /// Draws on `out`, which is a terminal. The cursor is hidden until [`Screen::leave`].
    pub(crate) fn new(out: impl Write + Send + 'static, colour: bool) -> Self {
        Self(Arc::new(Mutex::new(Canvas {
            out: Box::new(out),
            colour,
            drawn: vec![],
            size: None,
        })))
    }

    /// Replaces the frame. Lines must not be wider than `size` nor more than its rows.
    pub(crate) fn draw(&self, lines: &[Line], size: Size) -> io::Result<()> {
        let mut canvas = self.canvas();
        let colour = canvas.colour;
        canvas.replace(lines.iter().map(|line| line.render(colour)).collect(), Some(size))
    }

    /// Removes the frame and gives the cursor back: what is printed next stands in its place.
    pub(crate) fn leave(&self) -> io::Result<()> {
        let mut canvas = self.canvas();
        let size = canvas.size;
        canvas.home(size)?;
        canvas.drawn.clear();
        queue!(canvas.out, Clear(ClearType::FromCursorDown), Show)?;
        canvas.out.flush()
    }

    /// A writer for log lines: they appear above the frame.
    pub(crate) fn log(&self) -> LogAbove {
        LogAbove { screen: self.clone() }
    }

    fn canvas(&self) -> MutexGuard<'_, Canvas> {
        // A panic elsewhere must not take the last frame with it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Canvas {
    fn replace(&mut self, lines: Vec<String>, size: Option<Size>) -> io::Result<()> {
        queue!(self.out, BeginSynchronizedUpdate, Hide)?;
        self.home(size)?;
        for line in &lines {
            queue!(
                self.out,
                Print(line),
                Clear(ClearType::UntilNewLine),
                Print("\r\n")
            )?;
        }
        queue!(self.out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        self.drawn = lines;
        self.size = size;
        self.out.flush()
    }

    /// Moves to where the frame begins. A terminal of another size has wrapped or moved the old frame: then
    /// everything is cleared and it begins at the top.
    fn home(&mut self, size: Option<Size>) -> io::Result<()> {
        queue!(self.out, MoveToColumn(0))?;
        if self.drawn.is_empty() {
            return Ok(());
        }
        if self.size != size {
            return queue!(self.out, Clear(ClearType::All), crossterm::cursor::MoveTo(0, 0));
        }
        queue!(
            self.out,
            MoveUp(u16::try_from(self.drawn.len()).unwrap_or(u16::MAX))
        )
    }

    fn print_above(&mut self, text: &[u8]) -> io::Result<()> {
        queue!(self.out, BeginSynchronizedUpdate)?;
        self.home(self.size)?;
        queue!(self.out, Clear(ClearType::FromCursorDown))?;
        self.out.write_all(text)?;
        let (lines, size) = (std::mem::take(&mut self.drawn), self.size);
        self.replace(lines, size)
    }
}

/// Writes each log line above the frame.
#[derive(Clone)]
pub(crate) struct LogAbove {
    screen: Screen,
}

impl Write for LogAbove {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.screen.canvas().print_above(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for LogAbove {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Terminal(Arc<Mutex<Vec<u8>>>);

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Terminal {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    const SIZE: Size = Size {
        width: 80,
        height: 24,
    };

    #[test]
    fn a_frame_replaces_the_one_before() {
        let terminal = Terminal::default();
        let screen = Screen::new(terminal.clone(), false);
        let frame = [Line::plain("one"), Line::plain("two")];
        screen.draw(&frame, SIZE).unwrap();
        assert!(!terminal.take().contains("\u{1b}[2A"), "nothing to replace yet");
        screen.draw(&frame, SIZE).unwrap();
        let second = terminal.take();
        assert!(
            second.contains("\u{1b}[2A") && !second.contains("\u{1b}[2J"),
            "up two lines, no clearing: {second:?}"
        );
        screen
            .draw(
                &frame,
                Size {
                    width: 60,
                    height: 24,
                },
            )
            .unwrap();
        assert!(terminal.take().contains("\u{1b}[2J"), "another size clears");
    }

    #[test]
    fn log_lines_appear_above_the_frame() {
        let terminal = Terminal::default();
        let screen = Screen::new(terminal.clone(), false);
        screen.draw(&[Line::plain("frame")], SIZE).unwrap();
        terminal.take();
        screen.log().write_all(b"lane 0 is up\n").unwrap();
        let text = terminal.take();
        assert!(
            text.find("lane 0 is up").unwrap() < text.find("frame").unwrap(),
            "{text:?}"
        );
    }

    #[test]
    fn the_frame_goes_and_the_cursor_comes_back() {
        let terminal = Terminal::default();
        let screen = Screen::new(terminal.clone(), false);
        screen.draw(&[Line::plain("frame")], SIZE).unwrap();
        terminal.take();
        screen.leave().unwrap();
        assert!(terminal.take().ends_with("\u{1b}[1A\u{1b}[J\u{1b}[?25h"));
    }
}
