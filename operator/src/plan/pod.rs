//! What all pods of the operator have in common: restricted, without a token, with nothing to write to.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EnvVar,
    EnvVarSource, LocalObjectReference, ObjectFieldSelector, PodSecurityContext, PodSpec,
    ResourceFieldSelector, SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use millrace_contract::Value;
use millrace_crds::{MqttBroker, SecretKey};

use crate::names;
use crate::settings::Settings;

/// Everything of a pod is mounted below.
pub(super) const ROOT: &str = "/etc/millrace";
/// The user that runs in the image.
const USER: i64 = 65532;

/// A volume and where it is mounted.
pub(super) struct Mount {
    volume: Volume,
    mount: VolumeMount,
}

/// The container with its mounts and the pod around it.
pub(super) fn spec(settings: &Settings, command: Vec<String>, mounts: Vec<Mount>) -> (PodSpec, Container) {
    let (volumes, mounts): (Vec<_>, Vec<_>) = mounts.into_iter().map(|one| (one.volume, one.mount)).unzip();
    let container = Container {
        name: names::CONTAINER.into(),
        image: Some(settings.worker_image.clone()),
        image_pull_policy: Some(settings.worker_image_pull_policy.clone()),
        command: Some(command),
        env: Some(vec![
            env("POD_NAME", "metadata.name"),
            env("POD_UID", "metadata.uid"),
            EnvVar {
                name: "MILLRACE_CPU_REQUEST".into(),
                value: None,
                value_from: Some(EnvVarSource {
                    resource_field_ref: Some(ResourceFieldSelector {
                        container_name: Some(names::CONTAINER.into()),
                        divisor: Some(Quantity("1m".into())),
                        resource: "requests.cpu".into(),
                    }),
                    ..EnvVarSource::default()
                }),
            },
            EnvVar {
                name: "MILLRACE_LOG".into(),
                value: Some(settings.worker_log.clone()),
                value_from: None,
            },
        ]),
        volume_mounts: (!mounts.is_empty()).then_some(mounts),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..Container::default()
    };
    let secrets = settings.worker_image_pull_secrets.iter();
    let pod = PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        image_pull_secrets: (secrets.len() > 0).then(|| {
            secrets
                .map(|name| LocalObjectReference { name: name.clone() })
                .collect()
        }),
        volumes: (!volumes.is_empty()).then_some(volumes),
        ..PodSpec::default()
    };
    (pod, container)
}

/// A command line of the worker's program.
pub(super) fn command(arguments: &[&str]) -> Vec<String> {
    ["/usr/local/bin/bridge-worker"]
        .iter()
        .chain(arguments)
        .map(|&word| word.to_owned())
        .collect()
}

/// Requests and limits, where `written` says nothing with the defaults.
pub(super) fn quantities(
    written: &BTreeMap<String, String>,
    defaults: &[(&str, &str)],
) -> BTreeMap<String, Quantity> {
    let defaults = defaults
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned())));
    let written = written
        .iter()
        .map(|(name, value)| (name.clone(), Quantity(value.clone())));
    defaults.chain(written).collect()
}

fn env(name: &str, field: &str) -> EnvVar {
    EnvVar {
        name: name.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: field.into(),
                api_version: Some("v1".into()),
            }),
            ..EnvVarSource::default()
        }),
    }
}

/// A ConfigMap, as the folder `folder` below [`ROOT`].
pub(super) fn config(folder: &str, map: String, optional: bool) -> Mount {
    mounted(
        folder,
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: map,
                optional: optional.then_some(true),
                default_mode: Some(0o444),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
    )
}

/// An annotation of the pod, as the file `file` in the folder `folder` below [`ROOT`].
pub(super) fn annotation(folder: &str, file: &str, annotation: &str) -> Mount {
    mounted(
        folder,
        Volume {
            downward_api: Some(DownwardAPIVolumeSource {
                default_mode: Some(0o444),
                items: Some(vec![DownwardAPIVolumeFile {
                    path: file.into(),
                    field_ref: Some(ObjectFieldSelector {
                        field_path: format!("metadata.annotations['{annotation}']"),
                        api_version: Some("v1".into()),
                    }),
                    ..DownwardAPIVolumeFile::default()
                }]),
            }),
            ..Volume::default()
        },
    )
}

/// The Secrets that a broker names, each as a folder.
pub(super) fn secrets(broker: &MqttBroker) -> Vec<Mount> {
    let basic = broker.spec.auth.as_ref().and_then(|auth| auth.basic.as_ref());
    let names: BTreeSet<&str> = basic
        .map(|basic| basic.secret_ref.name.as_str())
        .into_iter()
        .collect();
    let mount = |name: &&str| {
        let folder = format!("secrets/{name}");
        let mut mount = mounted(
            &folder,
            Volume {
                secret: Some(SecretVolumeSource {
                    secret_name: Some((*name).to_owned()),
                    // For the pod's group, which `fsGroup` names.
                    default_mode: Some(0o440),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            },
        );
        let volume = format!("secret-{}", names::hash(name.as_bytes()));
        mount.volume.name.clone_from(&volume);
        mount.mount.name = volume;
        mount
    };
    names.iter().map(mount).collect()
}

/// Where a worker finds a key of a Secret.
pub(crate) fn secret_file(key: &SecretKey<'_>) -> Value {
    Value::File(format!("{ROOT}/secrets/{}/{}", key.secret, key.key).into())
}

fn mounted(folder: &str, volume: Volume) -> Mount {
    let name = folder.replace('/', "-");
    Mount {
        volume: Volume {
            name: name.clone(),
            ..volume
        },
        mount: VolumeMount {
            name,
            mount_path: format!("{ROOT}/{folder}"),
            read_only: Some(true),
            ..VolumeMount::default()
        },
    }
}
