#!/usr/bin/env bash
# Puts clients in other languages into the cache, for pods that mount it and this machine's /usr (see README.md):
#   clients/python   a venv of Debian's Python with PyPI's kubernetes
#   clients/java     the jars of fabric8's kubernetes-client, from Maven Central
#   clients/jdk      the machine's JDK, below /usr
# Prints the folder. It costs nothing when all is there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); . "$here/versions.sh"
clients=$cache/clients; mkdir -p "$clients"
exec 9>"$clients/lock"; flock 9

if [ ! -e "$clients/.python-$python_kubernetes_version" ]; then
  rm -rf "$clients/python"
  /usr/bin/python3 -m venv "$clients/python"   # not another Python on PATH: only /usr is mounted in the pod
  "$clients/python/bin/pip" install --quiet --disable-pip-version-check "kubernetes==$python_kubernetes_version" >&2
  touch "$clients/.python-$python_kubernetes_version"
fi
if [ ! -e "$clients/.java-$fabric8_version" ]; then
  rm -rf "$clients/java"; work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
  cat > "$work/pom.xml" <<X
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>test</groupId><artifactId>clients</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>io.fabric8</groupId><artifactId>kubernetes-client</artifactId><version>$fabric8_version</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>2.0.17</version></dependency>
  </dependencies>
</project>
X
  mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$clients/java" >&2
  touch "$clients/.java-$fabric8_version"
fi
ln -sfn "$(dirname "$(dirname "$(readlink -f /usr/bin/javac)")")" "$clients/jdk"
echo "$clients"
