//! `millrace top`: how routes do now, in a cluster or in a process of this machine.
//!
//! [`cluster`] and [`admin`] look, [`choose`] says at what, [`row`], [`picture`] and [`json`] make of it what is shown.

mod admin;
mod ask;
pub(crate) mod choose;
mod cluster;
mod error;
mod json;
mod keys;
mod picture;
mod pod;
mod row;
mod seen;

use std::io::{self, IsTerminal};

use crate::app::{Top, TopFormat};
use crate::exit::Exit;
use crate::run::runtime;
use crate::signals::Signals;
use crate::validate::colour;
use crate::view::json::now;
use crate::view::output::{self, PAPER};
use crate::view::screen::{self, Screen};
use crate::view::table::Size;
use crate::view::text::{Line, Style, counted, wrap};
use admin::Admin;
use choose::{Sort, choose, order};
use cluster::Cluster;
use error::TopError;
use keys::{Keys, Wish};
use seen::RouteSeen;

/// Shows routes once, or until somebody has seen enough.
pub(crate) fn main(args: &Top) -> anyhow::Result<Exit> {
    runtime()?.block_on(async {
        let source = Source::new(args).await?;
        let is_live = args.output == TopFormat::Table && !args.once && io::stdout().is_terminal();
        if is_live {
            watch(args, &source).await
        } else {
            once(args, &source).await
        }
    })
}

/// Where routes are.
enum Source {
    Cluster(Cluster),
    Admin(Admin),
}

impl Source {
    async fn new(args: &Top) -> Result<Self, TopError> {
        Ok(match &args.admin {
            Some(address) => Self::Admin(Admin::new(address.clone())?),
            None => Self::Cluster(Cluster::new(args).await?),
        })
    }

    async fn look(&self, args: &Top, sort: Sort, room: usize) -> Result<Looked, TopError> {
        let mut routes = match self {
            Self::Cluster(cluster) => cluster.routes().await?,
            Self::Admin(admin) => admin.routes().await?,
        };
        routes.retain(|route| args.routes.is_empty() || args.routes.contains(&route.name));
        let all = routes.len();
        let unwell = routes.iter().filter(|route| choose::is_unwell(route)).count();
        let (mut routes, hidden) = choose(routes, sort, room);
        if let Self::Cluster(cluster) = self
            && !routes.is_empty()
        {
            cluster.ask(&mut routes).await?;
        }
        order(&mut routes, sort);
        Ok(Looked {
            routes,
            hidden,
            all,
            unwell,
        })
    }

    fn place(&self) -> String {
        match self {
            Self::Admin(admin) => format!("at {}", admin.address),
            Self::Cluster(cluster) => match &cluster.namespace {
                Some(namespace) => format!("in namespace {namespace}"),
                None => "in all namespaces".to_owned(),
            },
        }
    }
}

/// What was seen.
struct Looked {
    /// The routes that are shown.
    routes: Vec<RouteSeen>,
    /// How many are not.
    hidden: usize,
    /// How many there are.
    all: usize,
    /// How many of them are not ready, by what the operator says.
    unwell: usize,
}

async fn once(args: &Top, source: &Source) -> anyhow::Result<Exit> {
    let looked = source.look(args, args.sort, usize::MAX).await?;
    if args.output == TopFormat::Json {
        let time = now();
        for route in &looked.routes {
            output::write_line(&json::RouteLine::of(route, &time))?;
        }
        return Ok(Exit::Success);
    }
    if looked.routes.is_empty() {
        eprintln!("no TopicRoute {}", source.place());
        return Ok(Exit::Success);
    }
    let frame = picture::frame(&[], &looked.routes, 0, &[], paper());
    output::print(&frame, colour(&io::stdout()))?;
    Ok(Exit::Success)
}

/// As wide as the terminal, if it is one, or as `watch` says; as long as it takes.
fn paper() -> Size {
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    let width = if io::stdout().is_terminal() {
        screen::size().width
    } else {
        told().unwrap_or(PAPER.width)
    };
    Size { width, ..PAPER }
}

async fn watch(args: &Top, source: &Source) -> anyhow::Result<Exit> {
    let mut signals = Signals::listen()?;
    let mut sort = args.sort;
    // What makes it useless from the start is said instead of a picture.
    let mut looked = tokio::select! {
        looked = look(args, source, sort) => looked?,
        () = signals.next() => return Ok(Exit::Success),
    };
    let mut trouble: Option<TopError> = None;
    let mut keys = Keys::read();
    let screen = Screen::new(io::stdout(), colour(&io::stdout()));
    let mut due = tokio::time::Instant::now() + args.interval;
    loop {
        draw(&screen, source, &looked, sort, trouble.as_ref(), keys.is_some())?;
        tokio::select! {
            new = async {
                tokio::time::sleep_until(due).await;
                look(args, source, sort).await
            } => {
                match new {
                    Ok(new) => (looked, trouble) = (new, None),
                    // The last picture stays.
                    Err(error) => trouble = Some(error),
                }
                due = tokio::time::Instant::now() + args.interval;
            }
            wish = Keys::next(&mut keys) => match wish {
                Wish::End => break,
                Wish::Sort(wanted) => {
                    sort = wanted;
                    order(&mut looked.routes, sort);
                    // Others may have to be shown.
                    due = tokio::time::Instant::now();
                }
                Wish::Redraw => {}
            },
            () = signals.next() => break,
        }
    }
    drop(keys);
    screen.leave()?;
    // What was seen last stays on the terminal, as with `top`.
    let (above, _) = caption(source, &looked, sort, trouble.as_ref(), false);
    let size = below_the_prompt();
    let frame = picture::frame(&above, &looked.routes, looked.hidden, &[], size);
    output::print(&frame, colour(&io::stdout()))?;
    Ok(Exit::Success)
}

async fn look(args: &Top, source: &Source, sort: Sort) -> Result<Looked, TopError> {
    source
        .look(args, sort, picture::room(2, 2, below_the_prompt()))
        .await
}

/// The last row stays free for the cursor: a frame that fills it would scroll.
fn below_the_prompt() -> Size {
    let terminal = screen::size();
    Size {
        height: terminal.height.saturating_sub(1),
        ..terminal
    }
}

fn draw(
    screen: &Screen,
    source: &Source,
    looked: &Looked,
    sort: Sort,
    trouble: Option<&TopError>,
    has_keys: bool,
) -> io::Result<()> {
    let (above, below) = caption(source, looked, sort, trouble, has_keys);
    let frame = picture::frame(&above, &looked.routes, looked.hidden, &below, below_the_prompt());
    screen.draw(&frame, screen::size())
}

fn caption(
    source: &Source,
    looked: &Looked,
    sort: Sort,
    trouble: Option<&TopError>,
    has_keys: bool,
) -> (Vec<Line>, Vec<Line>) {
    let routes = counted(looked.all as u64, "route");
    let title = Line::styled(format!("{routes} {}", source.place()), Style::Bold);
    let title = match looked.unwell {
        0 => title,
        unwell => title.with(format!(", {unwell} not ready"), Style::Warn),
    };
    let (last, style) = match (trouble, has_keys, sort) {
        (Some(error), ..) => (format!("As it was before: {error}"), Style::Warn),
        (None, false, _) => ("Ctrl-C ends".to_owned(), Style::Dim),
        (None, true, Sort::Name) => ("q ends · r: the busiest first".to_owned(), Style::Dim),
        (None, true, Sort::Rate) => ("q ends · n: by name".to_owned(), Style::Dim),
    };
    let last = wrap(&last, screen::size().width);
    let last = last.iter().map(|line| Line::styled(line, style));
    let below = std::iter::once(Line::new()).chain(last).collect();
    (vec![title, Line::new()], below)
}
