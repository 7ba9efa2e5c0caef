/** What is remembered of a volume. All of it can be lost: the mounts are the state. */
export interface RememberedVolume {
  target: string;
  /** Of all inputs of the last publish; undefined after a restart. */
  digest: string | undefined;
  /** The Connector that the pod was found to be allowed to use. */
  connectorUid: string | undefined;
  /** When the first of its tokens expires, milliseconds since 1970; undefined when that is not known. */
  expiresAt: number | undefined;
}

export interface Volumes {
  get(volumeId: string): RememberedVolume | undefined;
  set(volumeId: string, volume: RememberedVolume): void;
  forget(volumeId: string): void;
  size(): number;
  values(): IterableIterator<RememberedVolume>;
  /** Counts a try to publish a volume that is not there yet: 1 for the first. */
  countTry(volumeId: string): number;
  /** Runs the work unless the volume is busy; undefined then. Races have given empty volumes (cert-manager/csi-driver#636). */
  exclusively<T>(volumeId: string, work: () => Promise<T>): Promise<{ value: T } | undefined>;
}

/** Tries are kept of so many volumes: after a final error the kubelet never says that a volume is given up. */
const mostTries = 1000;

export function createVolumes(): Volumes {
  const remembered = new Map<string, RememberedVolume>();
  const tries = new Map<string, number>();
  const busy = new Set<string>();
  return {
    get: (volumeId) => remembered.get(volumeId),
    set(volumeId, volume) {
      remembered.set(volumeId, volume);
      tries.delete(volumeId);
    },
    forget(volumeId) {
      remembered.delete(volumeId);
      tries.delete(volumeId);
    },
    size: () => remembered.size,
    values: () => remembered.values(),
    countTry(volumeId) {
      const count = (tries.get(volumeId) ?? 0) + 1;
      tries.delete(volumeId);
      tries.set(volumeId, count);
      const [oldest] = tries.keys();
      if (tries.size > mostTries && oldest !== undefined) tries.delete(oldest);
      return count;
    },
    async exclusively(volumeId, work) {
      if (busy.has(volumeId)) return undefined;
      busy.add(volumeId);
      try {
        return { value: await work() };
      } finally {
        busy.delete(volumeId);
      }
    },
  };
}
