# The Python client: list, watch, exec and apply with the kubeconfig that KUBECONFIG names.
import threading

from kubernetes import client, config, watch
from kubernetes.dynamic import DynamicClient
from kubernetes.stream import stream

config.load_kube_config()
core = client.CoreV1Api()
print("list", sorted(item.metadata.name for item in core.list_namespace().items))

seen = threading.Event()
ready = threading.Event()


def follow():
    watcher = watch.Watch()
    version = core.list_namespaced_config_map("work").metadata.resource_version
    ready.set()
    for event in watcher.stream(core.list_namespaced_config_map, "work", resource_version=version, timeout_seconds=30):
        if event["object"].metadata.name == "from-python":
            seen.set()
            watcher.stop()


thread = threading.Thread(target=follow)
thread.start()
ready.wait(20)
manifest = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "from-python", "namespace": "work"},
    "data": {"a": "1"},
}
maps = DynamicClient(core.api_client).resources.get(api_version="v1", kind="ConfigMap")
print("apply", maps.server_side_apply(body=manifest, namespace="work", field_manager="python").data.a)
thread.join(40)
print("watch", seen.is_set())
print("exec", stream(core.connect_get_namespaced_pod_exec, "subject", "work", command=["echo", "hello"],
                     stdin=False, stdout=True, stderr=True, tty=False).strip())
