import com.codahale.metrics.Counter;
import com.codahale.metrics.Gauge;
import com.codahale.metrics.MetricRegistry;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/**
 * HiveMQ CE, which lets everyone in when it is embedded, with its counters and gauges over HTTP.
 *
 * <p>java HiveMq CONFIGURATION-FOLDER DATA-FOLDER METRICS-PORT
 */
public final class HiveMq {
  public static void main(String[] arguments) throws Exception {
    EmbeddedHiveMQ broker =
        EmbeddedHiveMQ.builder()
            .withConfigurationFolder(Path.of(arguments[0]))
            .withDataFolder(Path.of(arguments[1]))
            .withExtensionsFolder(Path.of(arguments[1], "extensions"))
            .build();
    broker.start().join();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> broker.stop().join()));
    HttpServer http = HttpServer.create(new InetSocketAddress(Integer.parseInt(arguments[2])), 0);
    http.createContext(
        "/",
        exchange -> {
          byte[] text = metrics(broker.getMetricRegistry()).getBytes(StandardCharsets.UTF_8);
          exchange.sendResponseHeaders(200, text.length);
          exchange.getResponseBody().write(text);
          exchange.close();
        });
    http.start();
  }

  /** One a line: name and value. */
  private static String metrics(MetricRegistry registry) {
    StringBuilder text = new StringBuilder();
    registry
        .getMetrics()
        .forEach(
            (name, metric) -> {
              if (metric instanceof Counter counter) text.append(name + " " + counter.getCount() + "\n");
              if (metric instanceof Gauge<?> gauge) text.append(name + " " + gauge.getValue() + "\n");
            });
    return text.toString();
  }
}
