// fabric8: list, watch, exec and apply with the kubeconfig that KUBECONFIG names.
import io.fabric8.kubernetes.api.model.ConfigMap;
import io.fabric8.kubernetes.api.model.ConfigMapBuilder;
import io.fabric8.kubernetes.client.KubernetesClient;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import io.fabric8.kubernetes.client.Watcher;
import io.fabric8.kubernetes.client.WatcherException;
import io.fabric8.kubernetes.client.dsl.ExecWatch;
import java.io.ByteArrayOutputStream;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

public class Client {
  public static void main(String[] args) throws Exception {
    try (KubernetesClient client = new KubernetesClientBuilder().build()) {
      System.out.println("list " + client.namespaces().list().getItems().stream()
          .map(item -> item.getMetadata().getName()).sorted().toList());
      CountDownLatch seen = new CountDownLatch(1);
      var watch = client.configMaps().inNamespace("work").watch(new Watcher<ConfigMap>() {
        public void eventReceived(Action action, ConfigMap map) {
          if (map.getMetadata().getName().equals("from-java")) seen.countDown();
        }
        public void onClose(WatcherException cause) {}
      });
      ConfigMap map = new ConfigMapBuilder().withNewMetadata().withName("from-java").withNamespace("work").endMetadata()
          .addToData("a", "1").build();
      System.out.println("apply " + client.resource(map).fieldManager("java").serverSideApply().getData().get("a"));
      System.out.println("watch " + seen.await(20, TimeUnit.SECONDS));
      watch.close();
      ByteArrayOutputStream out = new ByteArrayOutputStream();
      try (ExecWatch exec = client.pods().inNamespace("work").withName("subject").writingOutput(out).exec("echo", "hello")) {
        System.out.println("exit " + exec.exitCode().get(20, TimeUnit.SECONDS));
      }
      System.out.println("exec " + out.toString().trim());
    }
    System.exit(0);
  }
}
