use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::RouteSnapshot;
use crate::latency::Histogram;

type Labels = Vec<(&'static str, String)>;

/// The page being written: each call adds one metric family.
pub(super) struct Page<'r, 'e> {
    to: DescriptorEncoder<'e>,
    routes: &'r [RouteSnapshot],
}

impl<'r, 'e> Page<'r, 'e> {
    pub(super) fn new(to: DescriptorEncoder<'e>, routes: &'r [RouteSnapshot]) -> Self {
        Self { to, routes }
    }

    pub(super) fn counter<N: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        value: impl Fn(&RouteSnapshot) -> N,
    ) -> fmt::Result {
        let samples = self.each(value);
        self.counter_family(name, help, samples)
    }

    pub(super) fn counters<N: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl Fn(&RouteSnapshot) -> Vec<(String, N)>,
    ) -> fmt::Result {
        let samples = self.each_labelled(label, values);
        self.counter_family(name, help, samples)
    }

    pub(super) fn gauge<N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        value: impl Fn(&RouteSnapshot) -> N,
    ) -> fmt::Result {
        let samples = self.each(value);
        self.gauge_family(name, help, samples)
    }

    pub(super) fn gauges<N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl Fn(&RouteSnapshot) -> Vec<(String, N)>,
    ) -> fmt::Result {
        let samples = self.each_labelled(label, values);
        self.gauge_family(name, help, samples)
    }

    /// As [`Page::gauges`], by several labels.
    pub(super) fn gauges_by<const L: usize, N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&'static str; L],
        values: impl Fn(&RouteSnapshot) -> Vec<([String; L], N)>,
    ) -> fmt::Result {
        let mut samples = Vec::new();
        for route in self.routes {
            for (texts, n) in values(route) {
                let own = labels.into_iter().zip(texts);
                samples.push((route_labels(route).into_iter().chain(own).collect(), n));
            }
        }
        self.gauge_family(name, help, samples)
    }

    /// A sample a route.
    fn each<N>(&self, value: impl Fn(&RouteSnapshot) -> N) -> Vec<(Labels, N)> {
        let samples = self.routes.iter();
        samples.map(|route| (route_labels(route), value(route))).collect()
    }

    /// A sample for each value of `label`, a route.
    fn each_labelled<N>(
        &self,
        label: &'static str,
        values: impl Fn(&RouteSnapshot) -> Vec<(String, N)>,
    ) -> Vec<(Labels, N)> {
        let routes = self.routes.iter();
        routes
            .flat_map(|route| labelled(route, label, values(route)))
            .collect()
    }

    fn counter_family<N: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: Vec<(Labels, N)>,
    ) -> fmt::Result {
        let (name, unit) = split_unit(name);
        let mut family = self
            .to
            .encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, n) in samples {
            family
                .encode_family(&labels)?
                .encode_counter::<Labels, _, f64>(&n, None)?;
        }
        Ok(())
    }

    fn gauge_family<N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: Vec<(Labels, N)>,
    ) -> fmt::Result {
        let (name, unit) = split_unit(name);
        let mut family = self
            .to
            .encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, n) in samples {
            family.encode_family(&labels)?.encode_gauge(&n)?;
        }
        Ok(())
    }

    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        value: impl Fn(&RouteSnapshot) -> &Histogram,
    ) -> fmt::Result {
        let (name, unit) = split_unit(name);
        let mut family = self
            .to
            .encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
        for route in self.routes {
            let histogram = value(route);
            let buckets: Vec<(f64, u64)> = histogram.buckets().map(|(us, n)| (seconds(us), n)).collect();
            family
                .encode_family(&route_labels(route))?
                .encode_histogram::<Labels>(
                    histogram.sum_us() as f64 / 1e6,
                    histogram.count(),
                    &buckets,
                    None,
                )?;
        }
        Ok(())
    }

    pub(super) fn build_info(&mut self, name: &str, help: &str) -> fmt::Result {
        let version: Labels = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        self.to
            .encode_descriptor(name, help, None, MetricType::Info)?
            .encode_info(&version)
    }

    pub(super) fn one(&mut self, name: &str, help: &str, kind: MetricType, value: f64) -> fmt::Result {
        let (name, unit) = split_unit(name);
        let mut metric = self.to.encode_descriptor(name, help, unit.as_ref(), kind)?;
        match kind {
            MetricType::Counter => metric.encode_counter::<Labels, _, f64>(&value, None),
            _ => metric.encode_gauge(&value),
        }
    }
}

fn route_labels(route: &RouteSnapshot) -> Labels {
    vec![
        ("namespace", route.status.namespace.clone()),
        ("route", route.status.name.clone()),
    ]
}

fn labelled<N>(route: &RouteSnapshot, label: &'static str, values: Vec<(String, N)>) -> Vec<(Labels, N)> {
    let with = |(value, n)| {
        let mut labels = route_labels(route);
        labels.push((label, value));
        (labels, n)
    };
    values.into_iter().map(with).collect()
}

/// The encoder appends the unit to the name and declares it; the code here names metrics whole.
fn split_unit(name: &str) -> (&str, Option<Unit>) {
    for unit in [Unit::Seconds, Unit::Bytes] {
        if let Some(stem) = name
            .strip_suffix(unit.as_str())
            .and_then(|stem| stem.strip_suffix('_'))
        {
            return (stem, Some(unit));
        }
    }
    (name, None)
}

fn seconds(us: u64) -> f64 {
    if us == u64::MAX {
        f64::INFINITY
    } else {
        us as f64 / 1e6
    }
}
