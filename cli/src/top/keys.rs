//! The keyboard, while a table is repainted.

use std::io;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal;
use tokio::sync::mpsc;

use super::choose::Sort;

/// How soon the thread that reads keys sees that nobody wants them any more.
const LOOK: Duration = Duration::from_millis(100);

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To see no more.
    End,
    /// Another order.
    Sort(Sort),
    /// The same on a terminal of another size.
    Redraw,
}

/// Keys without Enter, and not shown. The terminal is as before when this is dropped.
pub(crate) struct Keys {
    wishes: mpsc::Receiver<Wish>,
}

impl Keys {
    /// Of the terminal that this process was started in. None if it has none to read from.
    pub(crate) fn read() -> Option<Self> {
        use std::io::IsTerminal;
        if !io::stdin().is_terminal() {
            return None;
        }
        terminal::enable_raw_mode().ok()?;
        let (tell, wishes) = mpsc::channel(8);
        std::thread::spawn(move || {
            while !tell.is_closed() {
                match event::poll(LOOK) {
                    Ok(false) => {}
                    Ok(true) => {
                        let wish = event::read().ok().as_ref().and_then(wish);
                        if wish.is_some_and(|wish| tell.blocking_send(wish).is_err()) {
                            return;
                        }
                    }
                    Err(_) => return,
                }
            }
        });
        Some(Self { wishes })
    }

    /// The next wish. Cancelling loses none. A keyboard that is gone wishes for nothing: a signal ends the table then.
    pub(crate) async fn next(keys: &mut Option<Self>) -> Wish {
        if let Some(keys) = keys
            && let Some(wish) = keys.wishes.recv().await
        {
            return wish;
        }
        std::future::pending().await
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // Nothing can be done about it.
        terminal::disable_raw_mode().ok();
    }
}

fn wish(event: &Event) -> Option<Wish> {
    match event {
        Event::Resize(..) => Some(Wish::Redraw),
        Event::Key(KeyEvent {
            code,
            modifiers,
            kind: KeyEventKind::Press | KeyEventKind::Repeat,
            ..
        }) => match (code, modifiers.contains(KeyModifiers::CONTROL)) {
            (KeyCode::Char('c' | 'd'), true) | (KeyCode::Char('q'), false) => Some(Wish::End),
            (KeyCode::Char('n'), false) => Some(Wish::Sort(Sort::Name)),
            (KeyCode::Char('r'), false) => Some(Wish::Sort(Sort::Rate)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_and_ctrl_c_end_it() {
        let key = |c, modifiers| Event::Key(KeyEvent::new(KeyCode::Char(c), modifiers));
        assert_eq!(wish(&key('q', KeyModifiers::NONE)), Some(Wish::End));
        assert_eq!(wish(&key('c', KeyModifiers::CONTROL)), Some(Wish::End));
        assert_eq!(wish(&key('c', KeyModifiers::NONE)), None);
        assert_eq!(wish(&key('r', KeyModifiers::NONE)), Some(Wish::Sort(Sort::Rate)));
        assert_eq!(wish(&Event::Resize(80, 24)), Some(Wish::Redraw));
    }
}
