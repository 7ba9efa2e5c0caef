/** A line of /proc/self/mountinfo, as far as it matters here (proc_pid_mountinfo(5)). */
export interface MountEntry {
  /** The mount point, unescaped. */
  path: string;
  fsType: string;
  /** For a tmpfs: whatever was given when it was mounted. */
  source: string;
}

/** The text of mountinfo → its mounts in order; of several at one path the last one is on top. */
export function parseMountinfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split("\n")) {
    // 36 35 98:0 /root /mount/point rw,noatime shared:1 master:2 - fstype source superoptions
    const [before, after] = line.split(" - ", 2);
    const path = before?.split(" ")[4];
    const [fsType, source] = after?.split(" ") ?? [];
    if (path === undefined || fsType === undefined || source === undefined) continue;
    entries.push({ path: unescape(path), fsType, source: unescape(source) });
  }
  return entries;
}

/** The kernel writes blank, tab, newline and backslash as \ooo. */
function unescape(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** The `source` of our tmpfs for a volume: the mounts themselves are the driver's state. */
export function sourceOf(driverName: string, volumeId: string): string {
  return `${driverName}:${volumeId}`;
}

/** The volume whose tmpfs this is; undefined when it is none of ours. */
export function volumeOf(entry: MountEntry, driverName: string): string | undefined {
  if (entry.fsType !== "tmpfs" || !entry.source.startsWith(`${driverName}:`)) return undefined;
  return entry.source.slice(driverName.length + 1);
}

/** Paths where one of our mounts lies on another. */
export function stackedPaths(entries: readonly MountEntry[], driverName: string): string[] {
  const counts = new Map<string, number>();
  for (const entry of entries) {
    if (volumeOf(entry, driverName) !== undefined) counts.set(entry.path, (counts.get(entry.path) ?? 0) + 1);
  }
  return [...counts].filter(([, count]) => count > 1).map(([path]) => path);
}
