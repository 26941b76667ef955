//! The status of pods, as a kubelet or the scheduler writes it.

use serde_json::{Value, json};

/// A worker that passes its readiness probe.
pub(crate) const READY: &str = "
phase: Running
podIP: 10.1.0.7
conditions: [{type: Ready, status: 'True'}]
containerStatuses: [{name: bridge-worker, ready: true, restartCount: 0, image: '', imageID: '', state: {running: {}}}]
";

/// A worker that runs and is not ready.
pub(crate) const RUNNING: &str = "
phase: Running
podIP: 10.1.0.7
conditions: [{type: Ready, status: 'False'}]
containerStatuses: [{name: bridge-worker, ready: false, restartCount: 0, image: '', imageID: '', state: {running: {}}}]
";

/// A pod whose image is being pulled, or whose volumes are being mounted: the kubelet says no more than this also when
/// a Secret is missing.
pub(crate) const CREATING: &str = "
phase: Pending
conditions: [{type: PodScheduled, status: 'True'}]
containerStatuses:
- {name: bridge-worker, ready: false, restartCount: 0, image: '', imageID: '', state: {waiting: {reason: ContainerCreating}}}
";

/// A pod that no node takes.
pub(crate) const UNSCHEDULABLE: &str = "
phase: Pending
conditions:
- type: PodScheduled
  status: 'False'
  reason: Unschedulable
  message: '0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available: 3 No preemption victims
    found for incoming pod.'
";

/// A pod whose image cannot be pulled.
pub(crate) const NO_IMAGE: &str = "
phase: Pending
containerStatuses:
- name: bridge-worker
  ready: false
  restartCount: 0
  image: ''
  imageID: ''
  state: {waiting: {reason: ImagePullBackOff, message: 'Back-off pulling image \"millrace.dev/millrace:latest\"'}}
";

/// A worker that ends as soon as it has started.
pub(crate) const CRASHING: &str = "
phase: Running
podIP: 10.1.0.8
conditions: [{type: Ready, status: 'False'}]
containerStatuses:
- name: bridge-worker
  ready: false
  restartCount: 4
  image: ''
  imageID: ''
  state:
    waiting:
      reason: CrashLoopBackOff
      message: back-off 1m20s restarting failed container=bridge-worker pod=sensors-worker-1_factory
  lastState:
    terminated:
      exitCode: 1
      reason: Error
      message: |
        error: cannot listen on 0.0.0.0:9090: Address already in use (os error 98)
";

/// A pod that its node has evicted before its container ran.
pub(crate) const EVICTED: &str = "
phase: Failed
reason: Evicted
message: 'The node was low on resource: memory.'
";

/// A probe that has ended with this message.
pub(crate) fn ended(exit_code: i32, message: &str) -> Value {
    let (phase, reason) = match exit_code {
        0 => ("Succeeded", "Completed"),
        _ => ("Failed", "Error"),
    };
    let terminated = json!({"exitCode": exit_code, "reason": reason, "message": message});
    json!({
        "phase": phase,
        "containerStatuses": [{
            "name": "bridge-worker", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"terminated": terminated},
        }],
    })
}

/// From YAML.
pub(crate) fn status(yaml: &str) -> Value {
    serde_yaml::from_str(yaml).unwrap()
}
