import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The gateway allows nothing inline and nothing from elsewhere, so no asset may become a data URL.
export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../services/gateway/console/static",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    sourcemap: false,
    reportCompressedSize: true,
  },
  server: {
    proxy: { "/v1": process.env.SLUICE_URL ?? "http://127.0.0.1:8080" },
  },
});
