// asc --transform: puts manifest.json, from the working directory, into the manifest's custom section.
import { readFileSync } from "node:fs";
import { Transform } from "assemblyscript/transform";

export default class extends Transform {
  afterCompile(module) {
    module.addCustomSection("tocsin.manifest.v1", readFileSync("manifest.json"));
  }
}
