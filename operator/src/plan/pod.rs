//! What all pods of the operator have in common: restricted, without a token, with nothing to write to.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EnvVar,
    EnvVarSource, LocalObjectReference, ObjectFieldSelector, PodSpec, ProjectedVolumeSource,
    ResourceFieldSelector, SecretVolumeSource, SecurityContext, ServiceAccountTokenProjection, Volume,
    VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use millrace_contract::Value;
use millrace_crds::Place;

use crate::names;
use crate::settings::Settings;

/// Everything of a pod is mounted below.
pub(super) const ROOT: &str = "/etc/millrace";
/// The file of a token, in its folder.
const TOKEN: &str = "token";

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
        security_context: Some(settings.pod_security.clone()),
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

/// Where the values are that a broker and a sink name, each Secret, ConfigMap and token as a folder.
pub(super) fn values<'a>(places: impl IntoIterator<Item = Place<'a>>) -> Vec<Mount> {
    // One folder for all keys of an object.
    let folders: BTreeMap<String, Volume> = places
        .into_iter()
        .map(|place| (folder(&place), volume(&place)))
        .collect();
    let mounts = folders.into_iter().map(|(folder, volume)| {
        let mut mount = mounted(&folder, volume);
        let kind = folder
            .split_once('/')
            .map_or("value", |(kind, _)| kind.trim_end_matches('s'));
        let name = format!("{kind}-{}", names::hash(folder.as_bytes()));
        mount.volume.name.clone_from(&name);
        mount.mount.name = name;
        mount
    });
    mounts.collect()
}

/// Where a worker finds a value.
pub(crate) fn file(place: &Place<'_>) -> Value {
    let key = match place {
        Place::Secret(key) | Place::ConfigMap(key) => key.key,
        Place::Token { .. } => TOKEN,
    };
    Value::File(format!("{ROOT}/{}/{key}", folder(place)).into())
}

/// The folder below [`ROOT`] that a place is mounted as.
fn folder(place: &Place<'_>) -> String {
    match place {
        Place::Secret(key) => format!("secrets/{}", key.name),
        Place::ConfigMap(key) => format!("configmaps/{}", key.name),
        Place::Token {
            audience,
            expiration_seconds,
        } => {
            let token = format!("{audience} {expiration_seconds}");
            format!("tokens/{}", names::hash(token.as_bytes()))
        }
    }
}

/// What is mounted there; nothing in it is for others than the pod's group, which `fsGroup` names.
fn volume(place: &Place<'_>) -> Volume {
    let mut volume = Volume::default();
    match place {
        Place::Secret(key) => {
            volume.secret = Some(SecretVolumeSource {
                secret_name: Some(key.name.to_owned()),
                default_mode: Some(0o440),
                ..SecretVolumeSource::default()
            });
        }
        Place::ConfigMap(key) => {
            volume.config_map = Some(ConfigMapVolumeSource {
                name: key.name.to_owned(),
                default_mode: Some(0o444),
                ..ConfigMapVolumeSource::default()
            });
        }
        Place::Token {
            audience,
            expiration_seconds,
        } => {
            let token = ServiceAccountTokenProjection {
                audience: Some((*audience).to_owned()),
                expiration_seconds: Some(i64::from(*expiration_seconds)),
                path: TOKEN.into(),
            };
            volume.projected = Some(ProjectedVolumeSource {
                default_mode: Some(0o440),
                sources: Some(vec![VolumeProjection {
                    service_account_token: Some(token),
                    ..VolumeProjection::default()
                }]),
            });
        }
    }
    volume
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

#[cfg(test)]
mod tests {
    use millrace_crds::Key;

    use super::*;

    #[test]
    fn every_place_is_in_a_folder_that_is_mounted_and_each_object_once() {
        let key = |name, key| Key {
            namespace: "plants",
            name,
            key,
        };
        let token = |audience| Place::Token {
            audience,
            expiration_seconds: 3600,
        };
        let places = [
            Place::Secret(key("login", "username")),
            Place::Secret(key("login", "password")),
            Place::Secret(key("certificate", "tls.crt")),
            Place::ConfigMap(key("certificate", "ca.crt")),
            token("broker"),
            token("kafka"),
        ];
        let mounts = values(places);
        assert_eq!(mounts.len(), 5);
        for place in &places {
            let Value::File(file) = file(place) else {
                panic!("no file");
            };
            let folder = file.parent().unwrap().to_str().unwrap();
            let mount = mounts
                .iter()
                .find(|mount| mount.mount.mount_path == folder)
                .unwrap();
            assert_eq!(mount.mount.name, mount.volume.name);
            let (secret, map) = (&mount.volume.secret, &mount.volume.config_map);
            match place {
                Place::Secret(key) => {
                    assert_eq!(secret.as_ref().unwrap().secret_name.as_deref(), Some(key.name))
                }
                Place::ConfigMap(key) => assert_eq!(map.as_ref().unwrap().name, key.name),
                Place::Token { audience, .. } => {
                    let sources = mount.volume.projected.as_ref().unwrap().sources.as_ref().unwrap();
                    let token = sources[0].service_account_token.as_ref().unwrap();
                    assert_eq!(token.audience.as_deref(), Some(*audience));
                    assert_eq!(token.expiration_seconds, Some(3600));
                }
            }
        }
        let mut names: Vec<_> = mounts.iter().map(|mount| &mount.volume.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 5);
    }
}
